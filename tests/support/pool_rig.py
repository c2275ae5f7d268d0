"""A real `HttpPool` on a fake clock and a fake backend."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from proxy.exchange import Call
from proxy.pooling.context import PoolContext
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.http_pool import HttpPool
from proxy.pooling.idle_time import REST_S
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import NEVER, Deadline
from tests.support.clock import FakeClock
from tests.support.fake_backend import FakeDialer
from tests.support.pool_events import RecordedEvents

if TYPE_CHECKING:
    from proxy.exchange import Body, Reply
    from tests.support.fake_backend import FakeTransport

__all__ = ("PoolRig", "settle")


async def settle() -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(15):
        await asyncio.sleep(0)


class PoolRig:
    """`policy` is what an operator would write below ``pool.http``; `more` the rest of the upstream."""

    def __init__(self, policy: dict[str, object] | None = None, **more: object) -> None:
        self.clock = FakeClock()
        self.dialer = FakeDialer(is_eager=True)
        self.events = RecordedEvents()
        self.troubles = 0
        self.pool = HttpPool(
            PoolContext(
                parse_endpoint("http://model:8000"),
                UpstreamPolicy.model_validate({"pool": {"http": {"min": 0} | (policy or {})}} | more),
                self.dialer,  # type: ignore[arg-type]  # a fake
                self.clock,
                events=self.events,
                random=Random(7).random,
                on_trouble=self._trouble,
            )
        )
        self.tasks: list[asyncio.Task[Reply]] = []

    def _trouble(self) -> None:
        self.troubles += 1

    @property
    def state(self) -> tuple[int, int, int, int]:
        """Connections that are idle, leased, being dialed, and calls that wait."""
        found = self.pool.snapshot()
        return found["idle"], found["leased"], found["dialing"], found["waiting"]  # type: ignore[return-value]

    @property
    def asked(self) -> list[FakeTransport]:
        """The open connections that owe an answer."""
        return [transport for transport in self.dialer.open if transport.unanswered]

    def call(
        self,
        target: bytes = b"/",
        *,
        idempotent: bool = True,
        body: Body = b"",
        deadline_s: float | None = None,
        accept: bytes = b"*/*",
    ) -> Call:
        """A POST to `target`."""
        deadline = NEVER if deadline_s is None else Deadline(self.clock.now() + deadline_s)
        call = Call(b"POST", target, ((b"Host", b"m"), (b"Accept", accept)), body, deadline=deadline)
        call.idempotent = idempotent
        return call

    async def start(self, target: bytes = b"/", **how: Any) -> asyncio.Task[Reply]:  # noqa: ANN401 - see `call`
        """Begin a call and let it come as far as it comes."""
        task = self.begin(self.call(target, **how))
        await settle()
        return task

    def begin(self, call: Call) -> asyncio.Task[Reply]:
        """Begin `call`."""
        task = asyncio.get_running_loop().create_task(self.pool.exchange(call))
        self.tasks.append(task)
        return task

    async def season(self, count: int = 1) -> list[FakeTransport]:
        """Give the pool `count` idle connections that have carried calls, of a backend that is trusted."""
        while True:
            tasks = [await self.start(b"/season") for _ in range(count)]
            used = self.asked
            for transport in used:
                transport.answer()
            await settle()
            for task in tasks:
                task.result()
            if not self.pool._core.must_rest:
                return used
            await self.wait(REST_S)

    async def wait(self, span_s: float) -> None:
        """Let `span_s` seconds pass."""
        await settle()
        self.clock.advance(span_s)
        await settle()

    async def close(self) -> None:
        """End everything, and see that nothing is left."""
        await self.pool.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.state == (0, 0, 0, 0)
        assert not self.dialer.open
        assert not self.clock.pending
