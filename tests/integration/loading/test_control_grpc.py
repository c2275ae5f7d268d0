"""Load APIs over gRPC: the client, its messages, Open Inference and TensorFlow Serving."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from proxy.errors import ConnectFailed
from proxy.exchange import Call, Reply, Stream
from proxy.loading.control.base import ControlError
from proxy.loading.control.grpc_call import GrpcClient, GrpcError
from proxy.loading.control.open_inference_grpc import OpenInferenceGrpcControl
from proxy.loading.control.protobuf import decode, encode, text
from proxy.loading.control.tf_serving import TfServingControl
from tests.integration.loading.control_rig import Grpc, fails, states
from tests.integration.loading.dialects import TfServing, running


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

    async def test_an_answer_without_end_is_not_gathered(self) -> None:
        class Flood:
            def __init__(self) -> None:
                self.body = Stream(None)

            async def exchange(self, call: Call) -> Reply:
                for _ in range(17):
                    self.body.feed(bytes(1 << 20))
                return Reply(200, (), self.body)

        flood = Flood()
        with pytest.raises(ControlError, match="an answer of over") as caught:
            await GrpcClient(flood).ask("/s/m", b"")
        assert caught.value.kind == "unreachable"
        flood.body.feed(b"more")
        assert flood.body.buffered == 0

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
