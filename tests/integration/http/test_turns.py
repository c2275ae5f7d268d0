"""How often the loop turns between a read and the write that follows from it; counted, not timed."""

from __future__ import annotations

import asyncio
import selectors
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from proxy.batching.policy import BatchPolicy
from proxy.ingress.http import ClientConnection
from proxy.pooling.connection import Connection
from tests.support.raw_backend import RawBackend
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BODY = b'{"instances":[[1.5]]}'


class Turns(selectors.DefaultSelector):
    """Counts how often the loop looks for what has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += 1
        return super().select(timeout)


class Watched:
    """Passes everything on to `inner`, and tells `note` the names of the methods asked for."""

    def __init__(self, inner: Any, note: Callable[[str], None]) -> None:  # noqa: ANN401  a protocol or transport
        self._inner = inner
        self._note = note

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever `inner` has
        self._note(name)
        return getattr(self._inner, name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(Watched(transport, self._note))


class WatchedLoop(asyncio.SelectorEventLoop):
    """Notes in which of its turns the proxy's connections read and wrote last."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.client: dict[str, int] = {}
        self.backend: dict[str, int] = {}
        super().__init__(self.turns)

    async def create_server(self, factory: Any, *args: Any, **more: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        return await super().create_server(lambda: self._watched(factory()), *args, **more)

    async def create_connection(self, factory: Any, *args: Any, **more: Any) -> Any:  # type: ignore[override]  # noqa: ANN401
        made = factory()
        transport, _ = await super().create_connection(lambda: self._watched(made), *args, **more)
        return transport, made

    def _watched(self, protocol: Any) -> Any:  # noqa: ANN401
        for kind, marks in ((ClientConnection, self.client), (Connection, self.backend)):
            if isinstance(protocol, kind):
                return Watched(protocol, partial(self._note, marks))
        return protocol

    def _note(self, marks: dict[str, int], name: str) -> None:
        marks[name] = self.turns.count


async def ask(batch: BatchPolicy) -> None:
    """One call, when the pool has a connection for it."""
    warm = {"pool": {"http": {"min": 1}}}
    async with (
        RawBackend() as backend,
        stage(backend.url, protocol="kserve-v1", batch=batch, pool=warm) as server,
        RawClient(server.url) as client,
    ):
        await server.pool.start()
        await until(lambda: server.pool.snapshot()[0]["idle"] == 1)
        answer = await client.ask(b"POST", b"/v1/models/m:predict", BODY, b"Content-Type: application/json")
        assert answer.status == 200


@pytest.mark.parametrize(
    "batch", [{"mode": "off"}, {"mode": "adaptive"}], ids=["passed on", "through a lane"]
)
def test_a_lone_call_and_its_answer_leave_in_the_turn_after_they_were_read(
    batch: Mapping[str, object],
) -> None:
    loop = WatchedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(ask(BatchPolicy.model_validate(batch)))
    client, backend = loop.client, loop.backend
    assert (backend["write"] - client["data_received"], client["write"] - backend["data_received"]) == (1, 1)
