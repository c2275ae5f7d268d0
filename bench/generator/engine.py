"""The load itself: connections of `proxy.demo.client`, one timer, no tasks but for reconnecting.

Owned by the generator process. It waits for answers and for the next planned instant, and ends when its time
is over and everything is answered, or `patience_s` later.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import Counter, deque
from time import monotonic
from typing import TYPE_CHECKING

from bench.generator.schedule import constant, poisson
from bench.generator.spec import LATE_S, LoadResult, LoadSpec
from bench.latency import encoded
from proxy.demo.client import ClientConnection, connect
from proxy.demo.finetimer import FineTimer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("generate",)

CONNECTS_AT_ONCE = 64


class Engine:
    """One measurement in progress."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._timer = FineTimer(self._loop)
        self._connections: set[ClientConnection] = set()
        self._free: list[ClientConnection] = []
        self._backlog: deque[float] = deque()
        self._reconnecting: set[asyncio.Task[None]] = set()
        self._next = 0
        self._in_flight = 0
        self._plan: Iterator[float] = iter(())
        self._planned: float | None = None
        self._is_over = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._first: dict[int, bytes] = {}
        self._latencies: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()
        self._result = LoadResult(is_open=spec.arrivals != "closed")
        self._start = self._counts_from = self._ends_at = 0.0

    async def run(self) -> LoadResult:
        """Connect, load, wait for the last answers, count."""
        for at in range(0, self._spec.connections, CONNECTS_AT_ONCE):
            count = min(CONNECTS_AT_ONCE, self._spec.connections - at)
            await asyncio.gather(*(self._connect() for _ in range(count)))
        self._start = monotonic()
        self._counts_from = self._start + self._spec.warm_up
        self._ends_at = self._start + self._spec.seconds
        usage = _cpu_s()
        self._timer.call_at(self._ends_at, self._over)
        self._timer.call_at(self._ends_at + self._spec.patience_s, self._end)
        self._begin()
        await self._ended
        self._result.cpu_share = (_cpu_s() - usage) / (monotonic() - self._start)
        self._close()
        return self._summary()

    # ------------------------------------------------------------- sending
    def _begin(self) -> None:
        spec = self._spec
        if spec.arrivals == "closed":
            for connection in self._free:
                self._send(connection, monotonic())
            self._free.clear()
            return
        if spec.arrivals == "constant":
            self._plan = constant(spec.rate, spec.seconds)
        else:
            self._plan = poisson(spec.rate, spec.seconds, spec.seed)
        self._planned = next(self._plan, None)
        self._send_due()

    def _send_due(self) -> None:
        now = monotonic()
        while self._planned is not None:
            due = self._start + self._planned
            if due > now:
                self._timer.call_at(due, self._send_due)
                return
            self._note_due(due, now)
            if self._free:
                self._send(self._free.pop(), due)
            else:
                self._backlog.append(due)
                self._result.waited += due >= self._counts_from
            self._planned = next(self._plan, None)

    def _note_due(self, due: float, now: float) -> None:
        if due >= self._counts_from:
            self._result.due += 1
            self._result.late += now - due > LATE_S

    def _send(self, connection: ClientConnection, due: float) -> None:
        index = self._next
        self._next = (index + 1) % len(self._spec.requests)
        self._in_flight += 1
        connection.send(self._spec.requests[index], index, due)

    def _proceed(self, connection: ClientConnection) -> None:
        if self._backlog:
            self._send(connection, self._backlog.popleft())
        elif self._is_over:
            if not self._in_flight:
                self._end()
        elif self._spec.arrivals == "closed":
            now = monotonic()
            self._result.due += now >= self._counts_from
            self._send(connection, now)
        else:
            self._free.append(connection)

    # ------------------------------------------------------------- answers
    def _answered(self, connection: ClientConnection, status: int, body: bytes) -> None:
        if connection.in_flight is None:
            self._errors["unsolicited"] += 1
            return
        (index, due), connection.in_flight = connection.in_flight, None
        self._in_flight -= 1
        now = monotonic()
        is_ok = 200 <= status < 300
        if self._counts_from <= now < self._ends_at:
            self._result.finished += is_ok
        if due >= self._counts_from:
            self._latencies.append(now - due)
            self._statuses[status] += 1
            if is_ok and self._spec.is_verifying:
                self._compare(index, body)
        self._proceed(connection)

    def _compare(self, index: int, body: bytes) -> None:
        first = self._first.setdefault(index, body)
        if first != body:
            if not self._errors["different"]:
                print(f"request {index} got {first!r} and then {body!r}", file=sys.stderr)
            self._errors["different"] += 1

    def _lost(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        if self._ended.done():
            return
        if connection.in_flight is not None:
            self._in_flight -= 1
            self._errors["lost"] += 1
        elif connection in self._free:
            self._free.remove(connection)
        if self._is_over:
            if not self._in_flight:
                self._end()
            return
        task = self._loop.create_task(self._reconnect())
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    async def _connect(self) -> ClientConnection:
        connection = await connect(self._spec.url, self._answered, self._lost)
        self._connections.add(connection)
        self._free.append(connection)
        return connection

    async def _reconnect(self) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self._errors["connect"] += 1
            return
        self._free.remove(connection)
        self._proceed(connection)

    # ------------------------------------------------------------- the end
    def _over(self) -> None:
        self._is_over = True
        if not self._in_flight and not self._backlog:
            self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _close(self) -> None:
        self._timer.close()
        for task in self._reconnecting:
            task.cancel()
        for connection in tuple(self._connections):
            connection.close()

    def _summary(self) -> LoadResult:
        result = self._result
        if self._in_flight + len(self._backlog):
            self._errors["unanswered"] += self._in_flight + len(self._backlog)
        result.seconds = self._ends_at - self._counts_from
        result.answered = len(self._latencies)
        result.ok = sum(count for status, count in self._statuses.items() if 200 <= status < 300)
        result.statuses = {str(status): count for status, count in sorted(self._statuses.items())}
        result.errors = dict(self._errors)
        result.histogram = encoded(self._latencies)
        return result


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def generate(spec: LoadSpec) -> LoadResult:
    """Run one measurement in this process; raises `OSError` when the server cannot be reached at first."""
    return await Engine(spec).run()
