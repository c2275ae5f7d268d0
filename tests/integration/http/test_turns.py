"""How often the loop turns between a read and the write that follows from it; counted, not timed."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

import pytest

from proxy.batching.policy import BatchPolicy
from proxy.ingress.headers import HeadWriter
from proxy.ingress.http import ClientConnection
from proxy.pooling.connection import Connection
from tests.support.raw_backend import RawBackend
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY = b'{"instances":[[1.5]]}'


class Turns(selectors.DefaultSelector):
    """Counts how often the loop looks for what has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += 1
        return super().select(timeout)


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> tuple[Turns, dict[str, int]]:
    """The loop's turns, and in which of them the last call was read, sent, answered, and its answer written."""
    turns, seen = Turns(), dict[str, int]()

    def watch(owner: type, method: str, mark: str) -> None:
        original = getattr(owner, method)

        def watched(*args: Any, **more: Any) -> Any:  # noqa: ANN401  whatever the original takes and gives
            seen[mark] = turns.count
            return original(*args, **more)

        monkeypatch.setattr(owner, method, watched)

    watch(ClientConnection, "data_received", "read")
    watch(Connection, "send", "sent")
    watch(Connection, "data_received", "answered")
    watch(HeadWriter, "head", "written")
    return turns, seen


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
    marks: tuple[Turns, dict[str, int]], batch: Mapping[str, object]
) -> None:
    turns, seen = marks
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        runner.run(ask(BatchPolicy.model_validate(batch)))
    assert (seen["sent"] - seen["read"], seen["written"] - seen["answered"]) == (1, 1)
