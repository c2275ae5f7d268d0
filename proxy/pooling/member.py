"""One endpoint of a cluster: its pool, its probes, its circuit, and whether calls should go to it.

Owned by a cluster. It joins what the prober sees to what calls experience; `is_plain` says that calls may be
sent without reserve, and `on_change` runs when that may have changed. `seen` is told what probes see.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from proxy.errors import UpstreamError
from proxy.exchange import Reply, Stream
from proxy.pooling.balancing import ramp
from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.context import PoolContext
from proxy.pooling.dial import Dialer
from proxy.pooling.ejection import Ejection
from proxy.pooling.events import unobserved
from proxy.pooling.grpc_prober import GrpcProber
from proxy.pooling.health import Health
from proxy.pooling.http_pool import HttpPool
from proxy.pooling.l4_pool import L4Pool
from proxy.pooling.prober import Prober
from proxy.pooling.verdict import verdict

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from proxy.exchange import Call
    from proxy.pooling.endpoint import Endpoint
    from proxy.pooling.events import PoolEvents, Sightings
    from proxy.pooling.policy import UpstreamPolicy
    from proxy.timing import Clock

__all__ = ("Member", "Outcome", "discard", "is_good")

log = logging.getLogger(__name__)

_POOLS: Final[dict[str, type[HttpPool | ChannelPool | L4Pool]]] = {"grpc": ChannelPool, "l4": L4Pool}
_SHUN_S: Final = 0.25  # after a refused connection, until probes or ejection take over
_SHUNNED_WEIGHT: Final = 1e-6  # chosen only when there is no other

Outcome = Reply | UpstreamError
"""What a try comes to: an answer, or why there is none."""


def discard(outcome: Outcome) -> None:
    """Nobody wants this outcome."""
    if isinstance(outcome, Reply) and isinstance(outcome.body, Stream):
        outcome.body.abandon()


def is_good(outcome: Outcome, *, is_grpc: bool) -> bool:
    """Whether the outcome is an answer, and none that another try could better."""
    status = verdict(outcome, is_grpc=is_grpc) if isinstance(outcome, Reply) else None
    return status is not None and status < 500


class Member:
    """See the module's text; implements `balancing.Candidate`."""

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: str,
        policy: UpstreamPolicy,
        clock: Clock,
        *,
        tls: ssl.SSLContext | None,
        events: PoolEvents,
        random: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        dialer = Dialer(endpoint, clock, tls, server_name=policy.tls.server_name)
        self.endpoint = endpoint
        self.health = Health(policy.health, clock.now())
        self.ejection = Ejection(policy.eject)
        is_grpc = protocol == "grpc"
        self.prober = (GrpcProber if is_grpc else Prober)(
            endpoint,
            protocol,
            self.health,
            dialer,
            clock,
            events=events,
            random=random,
            on_probed=self._probed,
        )
        self.pool: HttpPool | ChannelPool | L4Pool = _POOLS.get(protocol, HttpPool)(
            PoolContext(endpoint, policy, dialer, clock, events, random, on_trouble=self.prober.suspect)
        )
        self._now = clock.now
        self._random = random
        self._events = events
        self._on_change = on_change
        self.seen: Sightings = unobserved
        self._was_away = False
        self._was_up = False
        self._was_usable = True
        self._was_busy = False
        self._recovered_at = -math.inf
        self._shunned_until = -math.inf

        self._probes = bool(policy.health.every)

    def start(self) -> None:
        """Begin to probe; without probes the endpoint counts as healthy from the start."""
        self.prober.start()
        if not self._probes:
            self.pool.keep_warm()

    async def stop(self) -> None:
        """Stop probing and close every connection."""
        await self.prober.stop()
        await self.pool.close()

    async def attempt(self, call: Call) -> Outcome:
        """Send `call` here; whatever is not this endpoint's doing is raised."""
        try:
            return await self.pool.exchange(call)
        except UpstreamError as error:
            return error

    async def try_out(self, call: Call) -> Outcome:
        """The same, as the one call that an endpoint on trial gets."""
        self.ejection.is_on_trial = True
        try:
            return await self.attempt(call)
        finally:
            self.ejection.is_on_trial = False

    # ------------------------------------------------------------- state
    @property
    def is_ready(self) -> bool:
        """True when the endpoint is known to be healthy and not ejected."""
        return self.is_plain and self.health.state != "starting"

    @property
    def why(self) -> str:
        """Why it is not ready."""
        return (
            "ejected, calls to it fail" if self.ejection.is_ejected else self.prober.why or "not probed yet"
        )

    @property
    def is_plain(self) -> bool:
        """True while calls may be sent without reserve."""
        return self.health.is_usable and not self.ejection.is_ejected

    @property
    def is_busy(self) -> bool:
        """True when all that speaks against it is that it is too busy to answer a probe."""
        return not self.health.is_usable and self.prober.is_late and not self.ejection.is_ejected

    @property
    def load(self) -> int:
        """Calls in flight or waiting for a connection."""
        return self.pool.load

    def weight(self, now: float) -> float:
        """The share of a full load that this endpoint should get, less while it warms up."""
        weight = ramp(self._recovered_at, now)
        return weight * _SHUNNED_WEIGHT if now < self._shunned_until else weight

    def snapshot(self) -> dict[str, object]:
        """The endpoint's state for the status page."""
        return {
            "endpoint": self.endpoint.url,
            "health": self.health.state,
            "why": self.prober.why,
            "ejected": self.ejection.is_ejected,
            "failures": self.ejection.failures,
            "weight": round(self.weight(self._now()), 3),
            **self.pool.snapshot(),
        }

    # ------------------------------------------------------------- what calls experience
    def failed(self, *, on_trial: bool = False, was_refused: bool = False) -> None:
        """A call failed in a way that counts; `was_refused` when it could not even connect."""
        if was_refused:
            self._shunned_until = self._now() + _SHUN_S
        if not self.health.is_usable:
            return  # probes fail too: ejecting would only delay the return
        was_ejected = self.ejection.is_ejected
        is_ejected = self.ejection.failed(self._now(), self._random(), on_trial=on_trial)
        if is_ejected and not was_ejected:
            self._was_away = True
            self._events.ejected()
            log.warning("%s is ejected: %d calls in a row failed", self.endpoint.url, self.ejection.failures)
            self._on_change()

    def succeeded(self, *, on_trial: bool = False) -> None:
        """A call succeeded."""
        if self.ejection.succeeded(self._now(), on_trial=on_trial):
            self._reinstated()
            log.info("%s is reinstated", self.endpoint.url)
            self._on_change()

    def vouch(self) -> None:
        """Somebody has just had an answer of this backend by another way: it takes calls, and is probed."""
        if self.health.is_usable:
            return
        self.health.vouch()
        self.prober.suspect()
        log.info("%s takes calls: its models could be listed or loaded", self.endpoint.url)
        self._weigh()

    # ------------------------------------------------------------- what probes see
    def _probed(self) -> None:
        if not self.prober.is_late:
            self.seen(self.endpoint.url, is_alive=not self.prober.why)
        was_up, self._was_up = self._was_up, self.health.state == "up"
        if self._was_up:
            self.pool.keep_warm()
            if not was_up and self.ejection.is_ejected:
                self._welcome()
                self._on_change()
        self._weigh()

    def _weigh(self) -> None:
        if self.is_busy != self._was_busy:
            self._was_busy = self.is_busy
            self._on_change()
        if self.health.is_usable == self._was_usable:
            return
        self._was_usable = self.health.is_usable
        if self._was_usable:
            self._welcome()
        else:
            self._was_away = True
        self._on_change()

    def _welcome(self) -> None:
        """What calls have met is explained: nobody could reach the backend, and now it is back."""
        self.ejection.reset()
        self._reinstated()

    def _reinstated(self) -> None:
        if self._was_away:
            self._was_away = False
            self._recovered_at = self._now()
