"""Asks one endpoint how it is, on a connection of its own, and keeps its `Health`.

Owned by a cluster's member. It waits for one timer, then for the probe; a probe has a connection of its own,
so that a full pool cannot make a healthy backend look dead and a probe cannot delay a call. It ends with
`stop`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from proxy.errors import ConnectTimeout, ProxyError
from proxy.exchange import Call, Stream
from proxy.pooling.alarm import Alarm
from proxy.pooling.connection import Connection
from proxy.pooling.health import is_healthy_status, probe_path
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.policy import TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers
    from proxy.pooling.dial import Dialer
    from proxy.pooling.endpoint import Endpoint
    from proxy.pooling.events import PoolEvents
    from proxy.pooling.health import Health
    from proxy.timing import Clock, Timer

__all__ = ("Prober",)

log = logging.getLogger(__name__)

_HEADERS: Headers = ((b"User-Agent", b"pillion-probe"), (b"Accept", b"*/*"))


class Prober:
    """Probes `endpoint` when its `health` says so; `on_probed` runs after each probe.

    `why` is what was wrong with the last probe, empty when nothing was; `is_late` says that the endpoint took
    the connection and then did not answer in time, or had too little time to take it. It is also the owner of
    the probe's connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: str,
        health: Health,
        dialer: Dialer,
        clock: Clock,
        *,
        events: PoolEvents,
        random: Callable[[], float],
        on_probed: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.heads = HeadTable()
        self.timeouts = TimeoutPolicy()
        self.authority = endpoint.authority
        self.alarm = Alarm(clock, lambda _now: math.inf)  # a probe is bounded by its own time-out
        self.why = ""
        self.is_late = False
        self._url = endpoint.url
        self._path = probe_path(health.policy.path, protocol)
        self._health = health
        self._dialer = dialer
        self._events = events
        self._random = random
        self._on_probed = on_probed
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_running = False

    def start(self) -> None:
        """Begin to probe, unless probing is turned off."""
        self._is_running = bool(self._health.policy.every)
        self._schedule()

    def suspect(self) -> None:
        """Something looks wrong: probe soon."""
        self._health.suspect(self.clock.now())
        self._schedule()

    async def stop(self) -> None:
        """Stop; returns when no probe is under way."""
        self._is_running = False
        self._schedule()
        self.alarm.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------- probing
    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_running and self._task is None:
            self._timer = self.clock.call_at(self._health.next_probe_at, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        self.is_late = False  # `_ask` says so until the answer is there
        ran_out = False
        try:
            async with asyncio.timeout(self._health.timeout_s):
                self.why = await self._ask()
        except (TimeoutError, ConnectTimeout) as error:
            self.why = str(error) or "no answer in time"
            self.is_late = self.is_late or self._health.is_hasty
            ran_out = True
        except ProxyError as error:
            self.why = str(error)
            self.is_late = False
        self._task = None
        self._settle(ran_out=ran_out)
        self._schedule()

    async def _ask(self) -> str:
        connection, _ = await self._dialer.dial(lambda: Connection(self), self._health.timeout_s)
        self.is_late = bool(self._path)
        try:
            if not self._path:
                return ""
            reply = await connection.send(Call(b"GET", self._path.encode(), _HEADERS), self.clock.now())
            if isinstance(reply.body, Stream):
                reply.body.abandon()
            self.is_late = False
            return (
                "" if is_healthy_status(reply.status, self._health.policy.path) else f"status {reply.status}"
            )
        finally:
            connection.close("last")

    def _settle(self, *, ran_out: bool) -> None:
        before = self._health.state
        self._health.probed(self.clock.now(), is_healthy=not self.why, jitter=self._random(), ran_out=ran_out)
        self._events.probed("failed" if self.why else "ok")
        if self._health.state != before:
            level = logging.INFO if self._health.state == "up" else logging.WARNING
            log.log(level, "%s is %s%s", self._url, self._health.state, f": {self.why}" if self.why else "")
        self._on_probed()

    # ------------------------------------------------------------- Owner of the probe's connection
    def announced(self, timeout_s: float) -> None:
        """Of no interest: the connection is used once."""

    def streaming(self, connection: Connection) -> None:
        """Of no interest: only the status counts."""

    def held_up(self, connection: Connection) -> None:
        """Of no interest: nobody waits for this connection."""

    def released(self, connection: Connection) -> None:
        """Of no interest: `_ask` closes it."""

    def lost(self, _connection: object, /) -> None:
        """Of no interest: `_ask` knows."""
