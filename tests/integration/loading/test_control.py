"""Each control adapter against a server that speaks its dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.loading.actions import Report
from proxy.loading.control.base import Answer, Control, ControlError, understood
from proxy.loading.control.detect import detect
from proxy.loading.control.fan_out import FanOut
from proxy.loading.control.llamacpp import LlamaCppControl
from proxy.loading.control.ollama import OllamaControl
from proxy.loading.control.open_inference import OpenInferenceControl
from proxy.loading.control.open_inference_grpc import OpenInferenceGrpcControl
from proxy.loading.control.torchserve import TorchServeControl
from proxy.loading.control.vllm import VllmControl
from tests.integration.loading.control_rig import LOADING, READY, UNLOADED, fails, states
from tests.integration.loading.dialects import (
    LlamaCpp,
    Ollama,
    Server,
    TorchServe,
    Triton,
    Vllm,
    nobody,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.control.base import ControlHttp


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
