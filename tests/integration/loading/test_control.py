"""Each control adapter against a server that speaks its dialect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest

from proxy.errors import ConnectFailed
from proxy.exchange import Call, Reply, Stream
from proxy.loading.actions import Report
from proxy.loading.control.base import Answer, Control, ControlError, understood
from proxy.loading.control.detect import detect
from proxy.loading.control.fan_out import FanOut
from proxy.loading.control.grpc_call import GrpcClient, GrpcError
from proxy.loading.control.llamacpp import LlamaCppControl
from proxy.loading.control.ollama import OllamaControl
from proxy.loading.control.open_inference import OpenInferenceControl
from proxy.loading.control.open_inference_grpc import OpenInferenceGrpcControl
from proxy.loading.control.protobuf import decode, encode, text
from proxy.loading.control.replay import ReplayControl
from proxy.loading.control.tf_serving import TfServingControl
from proxy.loading.control.torchserve import TorchServeControl
from proxy.loading.control.vllm import VllmControl
from tests.integration.loading.dialects import (
    LlamaCpp,
    Ollama,
    Server,
    TfServing,
    TorchServe,
    Triton,
    Vllm,
    nobody,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.control.base import ControlHttp

READY, UNLOADED, LOADING = Report("ready"), Report("unloaded"), Report("loading")


async def states(control: Control, *names: str) -> dict[str, str]:
    return {name: report.state for name, report in (await control.listing(names)).items()}


async def fails(control: Control, model: str) -> tuple[str, str]:
    with pytest.raises(ControlError) as caught:
        await control.load(model)
    return caught.value.kind, caught.value.detail


MAKERS: dict[str, tuple[Callable[[], Server], Callable[[ControlHttp], Control]]] = {
    "triton": (lambda: Triton("a", "b"), OpenInferenceControl),
    "mlserver": (lambda: Triton("a", "b", accent="mlserver"), OpenInferenceControl),
    "kserve": (lambda: Triton("a", "b", accent="kserve"), OpenInferenceControl),
    "torchserve": (lambda: TorchServe("a", "b", "c"), lambda http: TorchServeControl(http, {})),
    "ollama": (lambda: Ollama("a", "b"), OllamaControl),
    "llamacpp": (lambda: LlamaCpp("a", "b"), LlamaCppControl),
    "vllm": (lambda: Vllm("a", "b"), lambda http: VllmControl(http, {"a": "/lora/a", "b": "/lora/b"})),
}


@pytest.mark.parametrize("name", MAKERS)
async def test_loads_lists_and_unloads(name: str) -> None:
    make_server, make_control = MAKERS[name]
    server = make_server()
    async with running(server) as (http, _):
        control = make_control(http)
        assert (await states(control, "a", "b"))["a"] == "unloaded"
        server.loads_after = 2
        await control.load("a")
        listing = await states(control, "a", "b")
        assert (listing["a"], listing["b"]) == ("ready", "unloaded")
        await control.load("a")  # once more is harmless
        await control.unload("a")
        assert (await states(control, "a", "b"))["a"] == "unloaded"
        await control.unload("a")


@pytest.mark.parametrize("name", MAKERS)
async def test_a_model_that_does_not_exist_is_missing(name: str) -> None:
    make_server, make_control = MAKERS[name]
    async with running(make_server()) as (http, _):
        control = VllmControl(http, {"ghost": "/nowhere"}) if name == "vllm" else make_control(http)
        assert (await fails(control, "ghost"))[0] == "missing"


@pytest.mark.parametrize("name", MAKERS)
async def test_a_backend_that_is_gone_is_unreachable(name: str) -> None:
    async with nobody() as http:
        assert (await fails(MAKERS[name][1](http), "a"))[0] == "unreachable"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, "CUDA error: out of memory", "memory"),
        (507, "worker exited", "memory"),
        (404, "no such model", "missing"),
        (504, "gateway", "timeout"),
        (408, "slow", "timeout"),
        (502, "proxy", "unreachable"),
        (429, "busy", "unreachable"),
        (500, "bad weights", "refused"),
        (400, "bad request", "refused"),
    ],
)
def test_errors_have_a_kind(status: int, body: str, kind: str) -> None:
    assert Answer(status, body.encode()).failure().kind == kind


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ControlError, match="not JSON: <html>"):
        Answer(200, b"<html>").json()


def test_an_unexpected_shape_is_refused() -> None:
    with pytest.raises(ControlError, match="unexpected answer"), understood():
        raise KeyError("models")


class TestOpenInference:
    async def test_names_states_in_every_accent(self) -> None:
        for accent in ("triton", "mlserver"):
            server = Triton("a", "b", "c", accent=accent)
            server.states |= {"a": "ready", "b": "loading", "c": "failed"}
            async with running(server) as (http, _):
                listing = await OpenInferenceControl(http).listing(())
            assert listing["a"] == READY
            assert listing["b"] == LOADING
            assert listing["c"] == Report("failed", detail="failed to load: bad weights")

    async def test_the_most_ready_version_counts(self) -> None:
        server = Triton()
        entries = [{"name": "a", "state": s} for s in ("UNAVAILABLE", "READY", "UNLOADING")] + [{"name": "b"}]
        server.fail["POST /v2/repository/index"] = (200, entries)
        async with running(server) as (http, _):
            assert await OpenInferenceControl(http).listing(()) == {"a": READY, "b": UNLOADED}

    async def test_an_index_that_is_none(self) -> None:
        server = Triton()
        server.fail["POST /v2/repository/index"] = (200, {"models": []})
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="no list"):
                await OpenInferenceControl(http).listing(())
            server.fail["POST /v2/repository/index"] = (500, "oops")
            with pytest.raises(ControlError, match="oops"):
                await OpenInferenceControl(http).listing(())

    async def test_says_how_triton_must_be_started(self) -> None:
        server = Triton("a")
        refusal = {"error": "explicit model load / unload is not allowed if polling is enabled"}
        server.fail["POST /v2/repository/models/a/load"] = (503, refusal)
        async with running(server) as (http, _):
            assert "--model-control-mode=explicit" in (await fails(OpenInferenceControl(http), "a"))[1]

    async def test_old_tritons_say_400_for_everything(self) -> None:
        server = Triton("a")
        server.fail["POST /v2/repository/models/a/load"] = (400, {"error": "failed to load 'a': Not Found"})
        async with running(server) as (http, _):
            assert (await fails(OpenInferenceControl(http), "a"))[0] == "missing"

    async def test_an_unload_that_fails_is_no_success(self) -> None:
        server = Triton("a")
        server.states["a"] = "ready"
        server.fail["POST /v2/repository/models/a/unload"] = (500, "stuck")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="stuck"):
                await OpenInferenceControl(http).unload("a")

    @pytest.mark.parametrize(
        ("status", "body", "verdict"),
        [
            (404, b"Request for unknown model: 'a' has no available versions", True),
            (400, b'{"error": "Model a is not ready yet."}', True),
            (404, b'{"error": "Model a not found"}', True),
            (503, b"model is not ready", True),
            (400, b'{"error": "wrong shape"}', False),
            (500, b"not ready", False),
        ],
    )
    def test_knows_a_cold_answer(self, status: int, body: bytes, verdict: bool) -> None:
        for control in (OpenInferenceControl(None), OpenInferenceGrpcControl(None)):  # type: ignore[arg-type]
            assert control.is_not_ready(status, body) is verdict


class TestTorchServe:
    async def test_reads_every_page_and_the_memory(self) -> None:
        server = TorchServe("a", "b", "c", "d", "e")
        server.states["e"] = "ready"
        async with running(server) as (http, _):
            listing = await TorchServeControl(http, {"new": "new.mar"}).listing(("new", "other"))
        assert list(listing) == ["new", "a", "b", "c", "d", "e"]
        assert listing["e"] == Report("ready", 5_000_000)

    async def test_registers_what_is_not_registered(self) -> None:
        server = TorchServe()
        async with running(server) as (http, _):
            assert await TorchServeControl(http, {"new": "s3://m/new.mar"}).load("new") == 5_000_000
        assert (
            "POST /models?url=s3://m/new.mar&model_name=new&initial_workers=1&synchronous=true"
            in server.asked
        )

    async def test_409_means_that_it_is_there(self) -> None:
        server = TorchServe("a")
        server.states["a"] = "ready"
        server.fail["PUT /models/a"] = (409, "already")
        async with running(server) as (http, _):
            assert await TorchServeControl(http, {}).load("a") == 5_000_000

    async def test_507_is_memory(self) -> None:
        server = TorchServe("a")
        server.fail["PUT /models/a"] = (507, "")
        async with running(server) as (http, _):
            assert (await fails(TorchServeControl(http, {}), "a"))[0] == "memory"
            server.fail["PUT /models/a"] = (500, "no")
            with pytest.raises(ControlError, match="no"):
                await TorchServeControl(http, {}).unload("a")

    async def test_a_description_that_is_none(self) -> None:
        server = TorchServe("a")
        server.fail["GET /models/a"] = (200, {})
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="unexpected description"):
                await TorchServeControl(http, {}).listing(())

    def test_knows_a_cold_answer(self) -> None:
        control = TorchServeControl(None, {})  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(503, b'Model "a" has no worker to serve inference request.')
        assert control.is_not_ready(404, b"Model not found: a")
        assert not control.is_not_ready(503, b"overloaded")


class TestOllama:
    async def test_reads_the_memory_in_use(self) -> None:
        async with running(Ollama("a")) as (http, _):
            assert await OllamaControl(http).load("a") == 800

    async def test_loads_an_embedder_by_embedding_nothing(self) -> None:
        server = Ollama("a")
        server.embedders = frozenset("a")
        async with running(server) as (http, _):
            await OllamaControl(http).load("a")
        assert "POST /api/embed" in server.asked

    async def test_waits_until_the_memory_is_free(self) -> None:
        server = Ollama("a")
        server.lingers = 3
        async with running(server) as (http, _):
            control = OllamaControl(http)
            await control.load("a")
            await control.unload("a")
        assert server.asked.count("GET /api/ps") == 5

    async def test_a_listing_that_fails_is_no_listing(self) -> None:
        server = Ollama("a")
        server.fail["GET /api/tags"] = (500, "disk gone")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="disk gone"):
                await OllamaControl(http).listing(())

    async def test_a_full_queue_is_no_verdict_on_the_model(self) -> None:
        server = Ollama("a")
        server.fail["POST /api/generate"] = (503, {"error": "server busy"})
        async with running(server) as (http, _):
            control = OllamaControl(http)
            assert (await fails(control, "a"))[0] == "unreachable"
            server.fail["POST /api/generate"] = (500, "no")
            with pytest.raises(ControlError, match="no"):
                await control.unload("a")

    async def test_a_model_that_left_at_once_has_no_size(self) -> None:
        server = Ollama("a")
        server.fail["GET /api/ps"] = (200, {"models": None})
        async with running(server) as (http, _):
            assert await OllamaControl(http).load("a") == 0

    def test_every_answer_is_an_answer(self) -> None:
        assert not OllamaControl(None).is_not_ready(404, b"not found")  # type: ignore[arg-type]  # asks nobody


class TestLlamaCpp:
    async def test_a_load_that_fails_is_seen(self) -> None:
        server = LlamaCpp("a")
        async with running(server) as (http, _):
            control = LlamaCppControl(http)
            server.fail["POST /models/load"] = (200, {"success": True})
            server.states["a"] = "failed"
            assert await fails(control, "a") == ("refused", "exit code 137")
            server.states.clear()
            assert "no longer lists" in (await fails(control, "a"))[1]

    async def test_a_full_router_is_out_of_memory(self) -> None:
        server = LlamaCpp("a")
        server.fail["POST /models/load"] = (500, "model limit reached, try again later")
        async with running(server) as (http, _):
            assert (await fails(LlamaCppControl(http), "a"))[0] == "memory"

    async def test_an_unload_that_fails(self) -> None:
        server = LlamaCpp("a")
        server.fail["POST /models/unload"] = (500, "stuck")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="stuck"):
                await LlamaCppControl(http).unload("a")

    def test_knows_a_cold_answer(self) -> None:
        control = LlamaCppControl(None)  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(400, b"model is not loaded")
        assert control.is_not_ready(503, b"Loading model")
        assert not control.is_not_ready(400, b"bad prompt")


class TestVllm:
    async def test_puts_the_base_model_to_sleep_and_wakes_it(self) -> None:
        server = Vllm()
        async with running(server) as (http, _):
            control = VllmControl(http, {})
            assert await states(control) == {"base": "ready"}
            await control.unload("base")
            assert await states(control) == {"base": "unloaded"}
            await control.load("base")
            assert await states(control) == {"base": "ready"}

    async def test_says_that_sleep_must_be_enabled(self) -> None:
        server = Vllm()
        server.fail["POST /sleep"] = (404, "")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="enable-sleep-mode"):
                await VllmControl(http, {}).unload("base")
            server.fail["POST /sleep"] = (500, "no")
            with pytest.raises(ControlError, match="no"):
                await VllmControl(http, {}).unload("base")

    async def test_failures(self) -> None:
        server = Vllm("a")
        server.fail |= {"POST /wake_up": (500, "no"), "POST /v1/unload_lora_adapter": (500, "no")}
        async with running(server) as (http, _):
            control = VllmControl(http, {"a": "/lora/a"})
            assert (await fails(control, "base"))[0] == "refused"
            with pytest.raises(ControlError, match="no"):
                await control.unload("a")

    def test_knows_a_cold_answer(self) -> None:
        control = VllmControl(None, {})  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(404, b"The model `a` does not exist.")
        assert not control.is_not_ready(404, b"Not Found")


class TestReplay:
    async def test_is_loaded_once_its_request_was_answered(self) -> None:
        warmed: list[str] = []

        async def warm(name: str) -> None:
            warmed.append(name)

        control = ReplayControl(warm)
        assert await control.listing(("a", "b")) == {"a": UNLOADED, "b": UNLOADED}
        await control.load("a")
        assert await control.listing(("a", "b")) == {"a": READY, "b": UNLOADED}
        assert warmed == ["a"]
        with pytest.raises(ControlError):
            await control.unload("a")
        assert control.is_not_ready(503, b"")
        assert not control.is_not_ready(500, b"")


class TestDetection:
    @pytest.mark.parametrize(
        ("name", "protocol"),
        [
            ("triton", "open-inference"),
            ("kserve", "open-inference"),
            ("torchserve", "torchserve"),
            ("ollama", "ollama"),
            ("llamacpp", "llamacpp"),
            ("vllm", "vllm"),
        ],
    )
    async def test_knows_each_dialect(self, name: str, protocol: str) -> None:
        async with running(MAKERS[name][0]()) as (http, _):
            assert await detect(http) == protocol

    async def test_mlserver_names_no_extension(self) -> None:
        server = Triton("a", accent="mlserver")
        server.fail["GET /v2"] = (200, {"name": "mlserver", "version": "1.7.1", "extensions": []})
        async with running(server) as (http, _):
            assert await detect(http) == "open-inference"
            server.fail["POST /v2/repository/index"] = (404, {})
            assert await detect(http) == "none"

    async def test_a_server_that_still_starts_is_asked_again(self) -> None:
        server = Triton("a")
        server.fail["GET /v2"] = (503, "starting")
        async with running(server) as (http, _):
            with pytest.raises(ControlError, match="starting"):
                await detect(http)

    async def test_knows_when_there_is_none(self) -> None:
        class Plain(Server):
            def answer(
                self, method: str, path: str, query: dict[str, str], body: object
            ) -> tuple[int, object]:
                return (200, "<html>") if path == "/v2" else (404, "")

        async with running(Plain()) as (http, _):
            assert await detect(http) == "none"
        async with nobody() as http:
            with pytest.raises(ControlError):
                await detect(http)


class TestFanOut:
    async def test_a_model_is_as_ready_as_on_the_least_ready_backend(self) -> None:
        first, second = Triton("a", "b"), Triton("a", "b", "c")
        async with running(first) as (http1, _), running(second) as (http2, _):
            both = FanOut([OpenInferenceControl(http1), OpenInferenceControl(http2)])
            await both.load("a")
            assert (first.states["a"], second.states["a"]) == ("ready", "ready")
            second.states["b"] = "ready"
            assert await states(both) == {"a": "ready", "b": "unloaded", "c": "unloaded"}
            await both.unload("a")
            assert (first.states["a"], second.states["a"]) == ("unloaded", "unloaded")
            assert both.is_not_ready(404, b"not found")

    async def test_one_failure_is_a_failure(self) -> None:
        async with running(Triton("a")) as (http1, _), running(Triton()) as (http2, _):
            both = FanOut([OpenInferenceControl(http1), OpenInferenceControl(http2)])
            assert (await fails(both, "a"))[0] == "missing"

    async def test_a_load_that_fails_somewhere_is_undone_everywhere(self) -> None:
        first, second = Triton("a"), Triton("a")
        second.fail["POST /v2/repository/models/a/load"] = (500, {"error": "bad weights"})
        async with running(first) as (http1, _), running(second) as (http2, _):
            both = FanOut([OpenInferenceControl(http1), OpenInferenceControl(http2)])
            assert (await fails(both, "a"))[0] == "refused"
            assert first.states["a"] == "unloaded"


# ------------------------------------------------------------------ gRPC
class Grpc:
    """Answers unary calls by path; remembers them."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[bytes], bytes | tuple[int, str]]] = {}
        self.asked: list[tuple[str, bytes]] = []
        self.is_streamed = False

    async def exchange(self, call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        path, message = call.target.decode(), call.body[5:]
        self.asked.append((path, message))
        answer = self.answers.get(path)
        made = (12, "unimplemented") if answer is None else answer(message)
        if isinstance(made, tuple):
            fields = ((b"grpc-status", str(made[0]).encode()), (b"grpc-message", made[1].encode()))
            return Reply(200, fields)
        frame = b"\x00" + len(made).to_bytes(4, "big") + made
        if not self.is_streamed:
            return Reply(200, ((b"grpc-status", b"0"),), frame)
        body = Stream(None)
        body.feed(frame)
        body.end(((b"grpc-status", b"0"),))
        return Reply(200, (), body)


class TestGrpcClient:
    @pytest.mark.parametrize("is_streamed", [False, True])
    async def test_sends_and_receives_one_message(self, is_streamed: bool) -> None:
        grpc = Grpc()
        grpc.is_streamed = is_streamed
        grpc.answers["/s/m"] = lambda message: message[::-1]
        assert await GrpcClient(grpc).ask("/s/m", b"abc") == b"cba"

    async def test_a_status_is_an_error_with_a_kind(self) -> None:
        grpc = Grpc()
        for status, kind in (
            (5, "missing"),
            (8, "memory"),
            (4, "timeout"),
            (14, "unreachable"),
            (13, "refused"),
        ):
            grpc.answers["/s/m"] = lambda _, status=status: (status, "it%20said")  # type: ignore[misc]
            with pytest.raises(GrpcError, match="it said") as caught:
                await GrpcClient(grpc).ask("/s/m", b"")
            assert caught.value.kind == kind

    async def test_memory_is_known_by_its_words_too(self) -> None:
        grpc = Grpc()
        grpc.answers["/s/m"] = lambda _: (13, "CUDA out of memory")
        with pytest.raises(GrpcError) as caught:
            await GrpcClient(grpc).ask("/s/m", b"")
        assert caught.value.kind == "memory"

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(404, (), b""),
            Reply(200, (), b""),
            Reply(200, ((b"grpc-status", b"0"),), b""),
            Reply(200, ((b"grpc-status", b"0"),), b"\x01\x00\x00\x00\x00"),
        ],
    )
    async def test_what_is_no_answer_is_unreachable(self, reply: Reply) -> None:
        class Odd:
            async def exchange(self, call: Call) -> Reply:
                return reply

        with pytest.raises(ControlError) as caught:
            await GrpcClient(Odd()).ask("/s/m", b"")
        assert caught.value.kind == "unreachable"

    async def test_nobody_there(self) -> None:
        class Gone:
            async def exchange(self, call: Call) -> Reply:
                raise ConnectFailed

        with pytest.raises(ControlError) as caught:
            await GrpcClient(Gone()).ask("/s/m", b"")
        assert caught.value.kind == "unreachable"


class TestProtobuf:
    def test_round_trips(self) -> None:
        fields = decode(encode((1, "text"), (2, 300), (2, 0), (15, b"\x00\xff")))
        assert fields == {1: [b"text"], 2: [300, 0], 15: [b"\x00\xff"]}
        assert text(fields, 1) == "text"
        assert text(fields, 2) == "0"
        assert text(fields, 9) == ""

    def test_passes_over_fixed_width_fields(self) -> None:
        assert decode(b"\x09" + bytes(8) + b"\x15" + bytes(4)) == {1: [bytes(8)], 2: [bytes(4)]}

    @pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\x80", b"\x0b"])
    def test_refuses_what_is_cut_short_or_unknown(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"cut short|unknown"):
            decode(data)


class TestOpenInferenceGrpc:
    def backend(self, service: str) -> tuple[Grpc, dict[str, str]]:
        grpc, models = Grpc(), {"a": "UNAVAILABLE", "b": "State.READY"}

        def index(_: bytes) -> bytes:
            return encode(*((1, encode((1, n), (2, "1"), (3, state))) for n, state in models.items()))

        def load(message: bytes) -> bytes | tuple[int, str]:
            name = text(decode(message), 2)
            if name not in models:
                return 5, "no such model"
            models[name] = "READY"
            return b""

        def unload(message: bytes) -> bytes | tuple[int, str]:
            name = text(decode(message), 2)
            if models[name] == "STUCK":
                return 13, "stuck"
            models[name] = "UNAVAILABLE"
            return b""

        def ready(message: bytes) -> bytes | tuple[int, str]:
            state = models.get(text(decode(message), 1))
            return encode((1, int(state in {"READY", "State.READY", "STUCK"}))) if state else (5, "unknown")

        grpc.answers = {
            f"{service}RepositoryIndex": index,
            f"{service}RepositoryModelLoad": load,
            f"{service}RepositoryModelUnload": unload,
            "/inference.GRPCInferenceService/ModelReady": ready,
        }
        return grpc, models

    @pytest.mark.parametrize(
        "service", ["/inference.GRPCInferenceService/", "/inference.model_repository.ModelRepositoryService/"]
    )
    async def test_finds_the_service_and_uses_it(self, service: str) -> None:
        grpc, models = self.backend(service)
        control = OpenInferenceGrpcControl(GrpcClient(grpc))
        assert await states(control) == {"a": "unloaded", "b": "ready"}
        await control.load("a")
        await control.load("a")
        await control.unload("b")
        assert models == {"a": "READY", "b": "UNAVAILABLE"}
        assert sum(path.endswith("RepositoryModelLoad") for path, _ in grpc.asked) == 1

    async def test_failures(self) -> None:
        grpc, models = self.backend("/inference.GRPCInferenceService/")
        control = OpenInferenceGrpcControl(GrpcClient(grpc))
        assert (await fails(control, "ghost"))[0] == "missing"
        models["b"] = "STUCK"
        with pytest.raises(ControlError, match="stuck"):
            await control.unload("b")
        grpc.answers["/inference.GRPCInferenceService/RepositoryModelUnload"] = lambda _: (9, "never loaded")
        await control.unload("a")

    async def test_an_error_after_a_load_that_succeeded_is_none(self) -> None:
        grpc, models = self.backend("/inference.GRPCInferenceService/")

        def load(_: bytes) -> tuple[int, str]:
            models["a"] = "READY"
            return 13, "lost my words"

        grpc.answers["/inference.GRPCInferenceService/RepositoryModelLoad"] = load
        await OpenInferenceGrpcControl(GrpcClient(grpc)).load("a")

    async def test_a_server_without_the_service(self) -> None:
        with pytest.raises(ControlError, match="no repository service"):
            await OpenInferenceGrpcControl(GrpcClient(Grpc())).listing(())


class TestTfServing:
    PATHS: ClassVar = {"a": "/models/a", "b": "/models/b"}

    def grpc(self, server: TfServing) -> Grpc:
        grpc = Grpc()

        def reload(message: bytes) -> bytes:
            config = decode(decode(message)[1][0])  # type: ignore[arg-type]  # bytes
            listed = decode(config[1][0]).get(1, [])  # type: ignore[arg-type]  # bytes
            wanted = {text(decode(entry), 1) for entry in listed}  # type: ignore[arg-type]  # bytes
            for name in server.states:
                if name not in wanted:
                    server.states[name] = "unloaded"
                elif server.states[name] == "unloaded":
                    server.begin(name)
            return encode((1, encode((1, 0))))

        grpc.answers["/tensorflow.serving.ModelService/HandleReloadConfigRequest"] = reload
        return grpc

    async def test_sends_the_whole_list_each_time(self) -> None:
        server = TfServing("a", "b")
        server.states["b"] = "ready"
        async with running(server) as (http, _):
            control = TfServingControl(http, GrpcClient(self.grpc(server)), self.PATHS)
            assert await states(control) == {"a": "unloaded", "b": "ready"}
            server.loads_after = 2
            await control.load("a")
            assert server.states == {"a": "ready", "b": "ready"}
            await control.unload("b")
            assert server.states == {"a": "ready", "b": "unloaded"}

    async def test_failures(self) -> None:
        server = TfServing("a")
        async with running(server) as (http, _):
            grpc = self.grpc(server)
            control = TfServingControl(http, GrpcClient(grpc), self.PATHS)
            assert (await fails(control, "ghost"))[0] == "missing"
            assert (await states(control))["b"] == "unloaded", "no versions: not served"
            server.states["a"] = "failed"
            assert await fails(control, "a") == ("refused", "no variables")
            path = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
            grpc.answers[path] = lambda _: encode((1, encode((1, 3), (2, "bad config"))))
            assert await fails(control, "a") == ("refused", "bad config")
            server.fail["GET /v1/models/a"] = (500, "oops")
            with pytest.raises(ControlError, match="oops"):
                await control.listing(())

    async def test_calls_do_not_overlap(self) -> None:
        server = TfServing("a", "b")
        async with running(server) as (http, _):
            control = TfServingControl(http, GrpcClient(self.grpc(server)), self.PATHS)
            await asyncio.gather(control.load("a"), control.load("b"))
        assert server.states == {"a": "ready", "b": "ready"}

    def test_knows_a_cold_answer(self) -> None:
        control = TfServingControl(None, None, {})  # type: ignore[arg-type]  # asks nobody
        assert control.is_not_ready(404, b"Servable not found for request")
        assert not control.is_not_ready(404, b"no such path")
