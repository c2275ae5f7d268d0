"""Reaching the backend: dialects by name, several endpoints, Unix sockets, warm-up requests."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.loading.control.base import ControlError
from proxy.loading.control.connect import Connector
from proxy.loading.control.fan_out import FanOut
from proxy.loading.control.protobuf import encode
from proxy.loading.policy import ControlPolicy, LoadingPolicy, ModelLoadPolicy, WarmupPolicy
from proxy.pooling.endpoint import Endpoint, parse_endpoint
from tests.integration.loading.control_rig import Grpc
from tests.integration.loading.dialects import Server, Triton, Vllm, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.exchange import Upstream


@asynccontextmanager
async def connected(
    *servers: Server, grpc: Upstream | None = None, **changes: object
) -> AsyncIterator[Connector]:
    """A connector to all `servers`, its policy with `changes`."""
    async with AsyncExitStack() as stack:
        places = [parse_endpoint((await stack.enter_async_context(running(server)))[1]) for server in servers]
        connector = Connector(LoadingPolicy().model_copy(update=changes), places, grpc)
        stack.push_async_callback(connector.close)
        yield connector


def control(protocol: str, url: str = "") -> ControlPolicy:
    return ControlPolicy().model_copy(update={"protocol": protocol, "url": url})


async def test_detects_when_it_is_not_told() -> None:
    async with connected(Vllm()) as connector:
        found = await connector.connect()
        assert found is not None
        assert found.protocol == "vllm"


@pytest.mark.parametrize("protocol", ["open-inference", "torchserve", "ollama", "llamacpp", "vllm", "replay"])
async def test_what_is_named_is_not_asked_for(protocol: str) -> None:
    server = Triton("a")
    async with connected(server, control=control(protocol)) as connector:
        found = await connector.connect()
    assert found is not None
    assert found.protocol == protocol
    assert server.asked == []


async def test_may_be_asked_twice() -> None:
    async with connected(Vllm()) as connector:
        assert await connector.connect() is not None
        assert await connector.connect() is not None


async def test_none_is_none() -> None:
    async with connected(Triton(), control=control("none")) as connector:
        assert await connector.connect() is None


async def test_tensorflow_needs_its_grpc_port() -> None:
    async with connected(Triton(), control=control("tf-serving")) as connector:
        with pytest.raises(ControlError, match="gRPC"):
            await connector.connect()
    async with connected(Triton(), control=control("tf-serving"), grpc=Grpc()) as connector:
        found = await connector.connect()
        assert found is not None
        assert found.protocol == "tf-serving"


INDEX = "/inference.GRPCInferenceService/RepositoryIndex"


async def test_grpc_is_preferred_for_open_inference() -> None:
    server, grpc = Triton("a"), Grpc()
    grpc.answers[INDEX] = lambda _: encode((1, encode((1, "b"), (3, "READY"))))
    async with connected(server, control=control("open-inference"), grpc=grpc) as connector:
        found = await connector.connect()
        assert found is not None
        assert set(await found.listing(())) == {"b"}
    assert server.asked == []


async def test_a_grpc_port_without_a_repository_leaves_control_to_rest() -> None:
    async with connected(Triton("a"), control=control("open-inference"), grpc=Grpc()) as connector:
        found = await connector.connect()
        assert found is not None
        assert set(await found.listing(())) == {"a"}


async def test_a_repository_that_refuses_is_one_all_the_same() -> None:
    server, grpc = Triton("a"), Grpc()
    grpc.answers[INDEX] = lambda _: (7, "not for you")
    async with connected(server, control=control("open-inference"), grpc=grpc) as connector:
        found = await connector.connect()
        assert found is not None
        with pytest.raises(ControlError, match="not for you"):
            await found.listing(())


async def test_a_grpc_port_that_does_not_answer_decides_nothing() -> None:
    grpc = Grpc()
    grpc.answers[INDEX] = lambda _: (14, "starting")
    async with connected(Triton("a"), control=control("open-inference"), grpc=grpc) as connector:
        with pytest.raises(ControlError, match="starting"):
            await connector.connect()


async def test_a_backend_may_have_a_grpc_port_alone() -> None:
    assert await Connector(LoadingPolicy(), []).connect() is None
    named = LoadingPolicy().model_copy(update={"control": control("ollama")})
    assert await Connector(named, [], Grpc()).connect() is None
    found = await Connector(LoadingPolicy(), [], Grpc()).connect()
    assert found is not None
    assert found.protocol == "open-inference"


async def test_every_endpoint_is_controlled() -> None:
    first, second = Triton("a"), Triton("a")
    async with connected(first, second) as connector:
        found = await connector.connect()
        assert isinstance(found, FanOut)
        await found.load("a")
    assert first.states == second.states == {"a": "ready"}


async def test_the_control_interface_may_live_elsewhere() -> None:
    management = Triton("a")
    async with (
        running(management) as (_, url),
        connected(Triton(), control=control("auto", url)) as connector,
    ):
        found = await connector.connect()
        assert found is not None
        assert await found.listing(()) != {}


async def test_a_unix_socket(tmp_path: Path) -> None:
    server = Triton("a")
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    path = str(tmp_path / "model.sock")
    await web.UnixSite(runner, path).start()
    connector = Connector(LoadingPolicy(), [Endpoint(f"unix:{path}", "", 0, path, is_tls=False)])
    found = await connector.connect()
    assert found is not None
    assert found.protocol == "open-inference"
    await connector.close()
    await runner.cleanup()


class TestWarmUp:
    def models(self, **changes: object) -> dict[str, ModelLoadPolicy]:
        warmup = WarmupPolicy(path="/v2/models/{model}/ready", method="GET").model_copy(update=changes)
        return {"a b": ModelLoadPolicy().model_copy(update={"warmup": warmup}), "plain": ModelLoadPolicy()}

    async def test_is_sent_to_every_endpoint(self) -> None:
        first, second = Triton("a%20b"), Triton("a%20b")
        for server in (first, second):
            server.fail["GET /v2/models/a b/ready"] = (200, "")
        async with connected(first, second, models=self.models()) as connector:
            await connector.warm("a b")
            await connector.warm("plain")
            await connector.warm("unknown")
        assert first.asked == second.asked == ["GET /v2/models/a%20b/ready"]

    async def test_with_its_body(self) -> None:
        server = Triton()
        server.fail["POST /infer"] = (200, "fine")
        models = self.models(path="/infer", method="POST", body='{"inputs":[]}')
        async with connected(server, models=models) as connector:
            await connector.warm("a b")
        assert server.asked == ["POST /infer"]

    async def test_an_error_is_a_failure(self) -> None:
        async with connected(Triton(), models=self.models()) as connector:
            with pytest.raises(ControlError) as caught:
                await connector.warm("a b")
            assert caught.value.kind == "refused"

    async def test_silence_is_a_failure(self) -> None:
        async with connected(Triton(), models=self.models(timeout=0.0)) as connector:
            with pytest.raises(ControlError) as caught:
                await connector.warm("a b")
            assert caught.value.kind == "timeout"
