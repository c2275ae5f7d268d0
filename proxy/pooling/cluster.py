"""One upstream: its endpoints, and a call's way to an answer through them.

Owned by the application, a component of its lifecycle (`start`, `drain`, `stop`). A call goes to a plain
endpoint, the less busy of two; when it fails and may be sent again, to another one. An endpoint that is down
or ejected gets a single call at a time as a trial: when it is due, or when there is no other endpoint, so
that the only backend is never cut off for longer than one failing call. Whatever the trial does not admit
fails fast with `NoHealthyEndpoint` and says when to come back.
"""

from __future__ import annotations

import random as system_random
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    BadReply,
    ConnectFailed,
    ConnectTimeout,
    NoHealthyEndpoint,
    ReadTimeout,
    Reset,
    StreamReset,
    UpstreamError,
)
from proxy.exchange import Reply
from proxy.pooling.alarm import sleep
from proxy.pooling.attempt import Attempt
from proxy.pooling.balancing import choose
from proxy.pooling.channel_pool import ChannelPool
from proxy.pooling.ejection import is_failure_status
from proxy.pooling.events import unobserved
from proxy.pooling.hedging import Hedger
from proxy.pooling.member import Member, Outcome, discard, is_good
from proxy.pooling.retry import (
    RetryBudget,
    is_idempotent,
    is_retryable_error,
    is_retryable_status,
    retry_after_s,
    wait_s,
)
from proxy.pooling.tls import client_context
from proxy.pooling.verdict import grpc_status, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proxy.exchange import Begun, Call, Taker
    from proxy.pooling.endpoint import Endpoint
    from proxy.pooling.events import PoolEvents, Sightings
    from proxy.pooling.policy import UpstreamPolicy
    from proxy.timing import Clock

__all__ = ("Cluster",)

_FAULTS: Final = (ConnectFailed, ConnectTimeout, Reset, ReadTimeout, BadReply)
_UNREACHABLE: Final = (ConnectFailed, ConnectTimeout)
_COME_BACK_S: Final = 1.0  # a restarted endpoint is found by probes within about a second


class Cluster:
    """Implements `Upstream` for the upstream `name`, reached through `endpoints`; see the module's text.

    The protocol ``grpc`` means HTTP/2 channels, ``l4`` a byte stream for each call, any other HTTP/1.1
    connections.
    Raises OSError (ssl.SSLError included) for an unusable TLS file. `random` draws from [0, 1). `seen` is
    told what probes see.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        policy: UpstreamPolicy,
        clock: Clock,
        *,
        events: PoolEvents,
        protocol: str = "generic",
        random: Callable[[], float] = system_random.random,  # noqa: S311 - spreads load, keeps no secret
        seen: Sightings = unobserved,
    ) -> None:
        self.name = name
        self._policy = policy
        self._clock = clock
        self._events = events
        self._random = random
        self._budget = RetryBudget(policy.retry.budget, clock.now())
        self._transport = protocol if protocol in {"grpc", "l4"} else "http"
        self._is_grpc = is_grpc = protocol == "grpc"
        self._hedger = Hedger(policy.hedge, events, is_grpc=is_grpc) if policy.hedge.mode != "off" else None
        is_tls = any(endpoint.is_tls for endpoint in endpoints)
        alpn = "h2" if is_grpc else "http/1.1"
        tls = client_context(policy.tls, alpn=alpn) if is_tls else None
        self._members = [
            Member(
                endpoint,
                protocol,
                policy,
                clock,
                tls=tls,
                events=events,
                random=random,
                on_change=self._refresh,
            )
            for endpoint in endpoints
        ]
        for member in self._members:
            member.seen = seen
        self._refresh()

    # ------------------------------------------------------------- lifecycle
    async def start(self) -> None:
        """Begin to probe the endpoints; does not wait for them."""
        for member in self._members:
            member.start()

    async def drain(self, deadline: float) -> None:
        """Nothing to do: the calls that others drain still need the connections."""

    async def stop(self) -> None:
        """Close every connection; returns when nothing is left."""
        for member in self._members:
            await member.stop()

    # ------------------------------------------------------------- Upstream
    async def exchange(self, call: Call) -> Reply:
        """Send `call` to an endpoint and return the answer, trying again where that is harmless.

        Raises what `HttpPool.exchange` raises, and NoHealthyEndpoint when no endpoint could be reached. A
        `Stream` body of which nothing was taken is left to the caller.
        """
        self._budget.calls += 1
        if self._needs_care:
            return await self._exchange_with_care(call)
        plain = self._plain
        member = plain[0] if len(plain) == 1 else choose(plain, self._clock.now(), self._random)
        try:
            reply = await member.pool.exchange(call)
        except UpstreamError as error:
            return await self._settle(call, member, error)
        if (grpc_status(reply) if self._is_grpc else reply.status) >= 500:
            return await self._settle(call, member, reply)
        if member.ejection.failures:
            member.succeeded()
        return reply

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send `call` without a task where that takes no waiting: see `PromptUpstream`."""
        if self._needs_care:
            return None
        plain = self._plain
        member = plain[0] if len(plain) == 1 else choose(plain, self._clock.now(), self._random)
        pool = member.pool
        if not isinstance(pool, ChannelPool) or (channel := pool.take()) is None:
            return None
        attempt = Attempt(call, taker, member, pool, self._settle)
        attempt.sent = pool.send(channel, call, attempt)
        self._budget.calls += 1
        return attempt

    def vouch(self) -> None:
        """The endpoints have just answered by another way: what was away takes calls again, and is probed."""
        for member in self._members:
            member.vouch()

    # ------------------------------------------------------------- for operators
    def readiness(self) -> tuple[bool, str]:
        """Whether an endpoint is known to be healthy, and why not."""
        if any(member.is_ready for member in self._members):
            return True, ""
        return False, "; ".join(f"{member.endpoint.url}: {member.why}" for member in self._members)

    def snapshot(self) -> list[dict[str, object]]:
        """The endpoints' states for the status page."""
        return [member.snapshot() for member in self._members]

    def gauges(self) -> dict[str, Callable[[], Iterator[tuple[tuple[str, ...], float]]]]:
        """Samplers by metric name: (label values, value) pairs."""
        return {
            "upstream_connections": self._connections,
            "endpoint_healthy": lambda: self._each(lambda member: float(member.is_plain)),
            "endpoint_waiting": lambda: self._each(lambda member: member.pool.waiting),
            "endpoint_idle_limit_seconds": lambda: self._each(lambda member: member.pool.idle_limit_s),
            "endpoint_concurrency_limit": lambda: self._each(lambda member: member.pool.lease_limit),
        }

    def _connections(self) -> Iterator[tuple[tuple[str, ...], float]]:
        for member in self._members:
            for state, count in member.pool.connections.items():
                yield (self.name, self._transport, state), count

    def _each(self, read: Callable[[Member], float]) -> Iterator[tuple[tuple[str, ...], float]]:
        for member in self._members:
            yield (self.name, member.endpoint.url), read(member)

    # ------------------------------------------------------------- choosing
    def _refresh(self) -> None:
        # A model server that computes may leave probes unanswered for as long as it does. Where there is no
        # better endpoint, one that is merely late takes calls as ever: its own answers will tell.
        self._plain = [member for member in self._members if member.is_plain] or [
            member for member in self._members if member.is_busy
        ]
        is_all_closed = not any(member.ejection.is_ejected for member in self._members)
        self._needs_care = self._hedger is not None or not self._plain or not is_all_closed

    async def _exchange_with_care(self, call: Call) -> Reply:
        trial = self._trial()
        if trial is not None:
            return await self._settle(call, trial, await trial.try_out(call), on_trial=True)
        member = choose(self._plain, self._clock.now(), self._random)
        if self._hedger is not None and is_idempotent(call, self._policy.retry):
            others = [other for other in self._plain if other is not member]
            member, outcome = await self._hedger.attempt(call, member, others)
        else:
            outcome = await member.attempt(call)
        return await self._settle(call, member, outcome)

    def _trial(self) -> Member | None:
        """The endpoint to try out with this call, if there is one due, or no plain one."""
        now = self._clock.now()
        for member in self._members:
            if member.health.is_usable and member.ejection.is_trial_due(now):
                return member
        if self._plain:
            return None
        free = [member for member in self._members if not member.ejection.is_on_trial]
        if free:
            return min(free, key=lambda member: (not member.health.is_usable, member.ejection.until))
        raise NoHealthyEndpoint(
            f"no endpoint of {self.name} is healthy: {self.readiness()[1]}", retry_after_s=_COME_BACK_S
        )

    # ------------------------------------------------------------- trying again
    async def _settle(self, call: Call, member: Member, outcome: Outcome, *, on_trial: bool = False) -> Reply:
        """Judge the outcome of a try, try again while that is allowed, and answer or raise the last
        outcome."""
        self._judge(member, outcome, on_trial=on_trial)
        tries = 1
        while (plan := self._next_try(call, member, outcome, tries)) is not None:
            member, delay_s = plan
            if not isinstance(outcome, _UNREACHABLE) and not self._budget.take(self._clock.now()):
                self._events.retry_ended("budget")
                break
            self._events.retried()
            discard(outcome)
            if delay_s:
                await sleep(self._clock, delay_s)
            outcome = await member.attempt(call)
            tries += 1
            self._judge(member, outcome)
            self._events.retry_ended("ok" if is_good(outcome, is_grpc=self._is_grpc) else "failed")
        return self._conclude(member, outcome)

    def _judge(self, member: Member, outcome: Outcome, *, on_trial: bool = False) -> None:
        if isinstance(outcome, Reply):
            status = verdict(outcome, is_grpc=self._is_grpc)
            if status is None:
                return
            has_failed = is_failure_status(status, has_alternative=len(self._members) > 1)
        elif isinstance(outcome, StreamReset):  # one call's trouble, like an answer of 500
            has_failed = len(self._members) > 1
        elif isinstance(outcome, _FAULTS):
            has_failed = True
        else:
            return  # no connection was free: nothing is known about the endpoint
        if has_failed:
            member.failed(on_trial=on_trial, was_refused=isinstance(outcome, _UNREACHABLE))
        else:
            member.succeeded(on_trial=on_trial)

    def _next_try(
        self, call: Call, member: Member, outcome: Outcome, tries: int
    ) -> tuple[Member, float] | None:
        """Where to send `call` next and after which span, or None."""
        retry = self._policy.retry
        if tries >= retry.attempts:
            return None
        if isinstance(outcome, Reply):
            status = verdict(outcome, is_grpc=self._is_grpc)
            if status is None or not is_retryable_status(status, call, retry):
                return None
        elif not is_retryable_error(outcome, call, retry):
            return None
        now = self._clock.now()
        others = [other for other in self._plain if other is not member]
        if others:
            return choose(others, now, self._random), 0.0
        asked_s = retry_after_s(outcome.trailers or outcome.headers) if isinstance(outcome, Reply) else None
        delay_s = wait_s(tries, asked_s, self._random())
        if not member.is_plain or delay_s is None or now + delay_s >= call.deadline:
            return None
        return member, delay_s

    def _conclude(self, member: Member, outcome: Outcome) -> Reply:
        if isinstance(outcome, Reply):
            return outcome
        if isinstance(outcome, _UNREACHABLE) and all(other is member for other in self._plain):
            raise NoHealthyEndpoint(str(outcome), retry_after_s=_COME_BACK_S) from outcome
        raise outcome
