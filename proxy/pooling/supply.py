"""Dialing connections for a stock, and warming up the spare ones.

Owned by one `Stock`; it owns a task for each dial. It waits for dials and warm-ups only; `close` ends them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.errors import ConnectFailed, ProxyError, UpstreamError
from proxy.exchange import Call, Stream
from proxy.timing import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pooling.connection import Connection
    from proxy.pooling.dial import Dialer
    from proxy.pooling.events import PoolEvents
    from proxy.pooling.policy import HttpPoolPolicy
    from proxy.timing import Clock

__all__ = ("Supply",)


class Supply:
    """Each dial that was started ends in one of the callbacks.

    `on_dialed` gets an open connection and answers whether it should be warmed up; it is then leased, and
    given back or lost like any other. `on_failed` gets the reason, or None when the dial was cancelled.
    """

    def __init__(
        self,
        dialer: Dialer,
        make: Callable[[], Connection],
        policy: HttpPoolPolicy,
        clock: Clock,
        *,
        events: PoolEvents,
        on_dialed: Callable[[Connection, bool], bool],
        on_failed: Callable[[UpstreamError | None], None],
    ) -> None:
        self._dialer = dialer
        self._make = make
        self._connect_s = policy.connect
        self._warm_with = policy.warm_with.encode()
        self._now = clock.now
        self._events = events
        self._on_dialed = on_dialed
        self._on_failed = on_failed
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, count: int, *, is_spare: bool = False) -> None:
        """Begin `count` dials."""
        for _ in range(count):
            task = asyncio.get_running_loop().create_task(self._dial(is_spare=is_spare))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way; returns when nothing is."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dial(self, *, is_spare: bool) -> None:
        began = self._now()
        try:
            connection, address = await self._dialer.dial(self._make, self._connect_s)
        except UpstreamError as error:
            self._failed(error, began)
            return
        except BaseException:
            self._on_failed(None)
            raise
        if not connection.is_open:
            self._failed(ConnectFailed("the backend closed the new connection at once"), began)
            return
        self._events.connected("ok", self._now() - began)
        connection.address = address
        if self._on_dialed(connection, is_spare and bool(self._warm_with)):
            await self._warm_up(connection)

    def _failed(self, error: UpstreamError, began: float) -> None:
        self._events.connected(error.reason, self._now() - began)
        self._on_failed(error)

    async def _warm_up(self, connection: Connection) -> None:
        now = self._now()
        call = Call(b"GET", self._warm_with, (), deadline=Deadline(now + self._connect_s))
        waiter = connection.send(call, now)
        try:
            reply = await waiter
        except ProxyError:
            return
        except BaseException:
            connection.forsake(waiter)
            raise
        if isinstance(reply.body, Stream):
            reply.body.abandon()
