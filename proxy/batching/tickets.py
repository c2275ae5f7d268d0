"""A call that waits in a lane, the lane it waits in, and what the room reports: the shell's half of `former`.

A `Member` is owned by the coroutine that submitted it, which awaits `Member.future` and nothing else. Whoever
settles it, settles it once; settling one whose caller left is a no-op.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol, cast

from proxy.batching.queueing import Lane, Ticket
from proxy.errors import Draining, ProxyError
from proxy.exchange import Reply, Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

    from proxy.batching.codecs.base import Codec, Prepared
    from proxy.batching.former import Batch
    from proxy.batching.isolation import Failure
    from proxy.batching.keys import Wishes
    from proxy.batching.plan import Plan
    from proxy.batching.profile import Profile
    from proxy.exchange import Call, Headers

__all__ = ("BatchEvents", "CallLane", "Journey", "Member", "Subject", "discard")


class Subject(Protocol):
    """What routing knows of a call: the model it is for and the codec of its protocol form."""

    @property
    def model(self) -> str:
        """The metric label."""

    @property
    def codec(self) -> str | None:
        """The name of a codec, or None for calls that are never merged."""


class BatchEvents(Protocol):
    """What the room reports to telemetry."""

    def batched(self, model: str, items: int, trigger: str, wait_s: float) -> None:
        """A batch of `items` left, `wait_s` seconds after its oldest member arrived, because of `trigger`."""

    def refused(self, model: str, why: str) -> None:
        """A call was not merged but forwarded alone; `why` is one of a fixed set of slugs."""

    def isolated(self, model: str) -> None:
        """A failed batch is being taken apart."""


class CallLane(Lane):
    """Calls that may be merged, with what is equal for all of them.

    `strikes` counts failed merges in a row; until `suspended_until` its calls travel alone; until
    `sick_until` batches that fail as `sick_as` did are not taken apart.
    """

    __slots__ = (
        "codec",
        "headers",
        "is_idempotent",
        "method",
        "model",
        "plan",
        "sick_as",
        "sick_until",
        "strikes",
        "suspended_until",
        "target",
    )

    def __init__(
        self, key: Hashable, plan: Plan, profile: Profile, *, call: Call, codec: Codec, headers: Headers
    ) -> None:
        super().__init__(key, plan.bounds, profile, (call.identity, plan.rules.tenant(headers)))
        self.plan = plan
        self.model = profile.name
        self.codec = codec
        self.method = call.method
        self.target = call.target
        prefix = b"grpc-" if call.is_grpc else b""
        self.headers = (*headers, (prefix + b"accept-encoding", b"identity"))
        self.is_idempotent = call.idempotent
        self.strikes = 0
        self.suspended_until = 0.0
        self.sick_as: Failure | None = None
        self.sick_until = 0.0

    def is_known_sick(self, failure: Failure, now: float) -> bool:
        """Whether `failure` is what the backend was found to tell everybody."""
        return self.sick_as is not None and self.sick_until > now and failure.is_like(self.sick_as)


class Member(Ticket):
    """One caller's place in a lane and later in a batch."""

    __slots__ = ("call", "future", "journey", "prepared")

    def __init__(
        self, lane: CallLane, call: Call, prepared: Prepared, arrived_at: float, future: asyncio.Future[Reply]
    ) -> None:
        super().__init__(lane, prepared.items, prepared.nbytes, arrived_at, call.deadline)
        self.call = call
        self.prepared = prepared
        self.future = future
        self.journey: Journey | None = None

    @property
    def home(self) -> CallLane:
        """The lane, with what it knows of calls."""
        return cast("CallLane", self.lane)

    @property
    def is_done(self) -> bool:
        """Whether the caller has its answer, or left."""
        return self.future.done()

    def heed(self, wishes: Wishes) -> None:
        """The caller has said something about its own batching."""
        self.urgency = wishes.urgency
        if wishes.max_wait_s is not None:
            self.wish(wishes.max_wait_s)

    def board(self, journey: Journey) -> None:
        """The batch leaves: write down how it came about."""
        self.journey = journey
        self.call.queue_s = journey.batch.sent_at - self.arrived_at
        self.call.batch = journey.about

    def answer(self, reply: Reply) -> None:
        """Hand the caller its reply; one that nobody waits for is discarded."""
        if self.future.done():
            discard(reply)
        else:
            self.future.set_result(reply)

    def fail(self, error: ProxyError) -> None:
        """Hand the caller an error: its own copy, since an exception belongs to whoever it is raised in."""
        if not self.future.done():
            self.future.set_exception(copy.copy(error))


class Journey:
    """A batch on its way: who of its members still waits, and the task that carries it.

    `others` exchanges were under way when it left; `about` says for its callers how it came about.
    """

    __slots__ = ("_companions", "about", "batch", "lane", "members", "others", "task")

    def __init__(self, batch: Batch, members: list[Member], others: int) -> None:
        self.batch = batch
        self.members = members
        self.lane = members[0].home
        self.others = others
        self.about = b"size=%d; trigger=%b" % (batch.items, batch.trigger.encode())
        self.task: asyncio.Task[Any] | None = None
        self._companions = len(members)

    def leave(self) -> None:
        """A member's caller left; the upstream call is given up with the last of them."""
        self._companions -= 1
        if not self._companions and self.task is not None:
            self.task.cancel()

    def settle(self, *, is_given_up: bool) -> None:
        """The task ended: by now everyone has an answer, unless the batch was given up or has a bug."""
        for member in self.members:
            if not member.future.done():
                member.fail(Draining() if is_given_up else ProxyError())


def discard(reply: Reply) -> None:
    """Free what an unwanted reply holds."""
    if isinstance(reply.body, Stream):
        reply.body.abandon()
