"""A call that waits in a lane, the lane it waits in, and what the room reports: the shell's half of `former`.

A `Member` is owned by the coroutine that submitted it, which awaits `Member.future` and nothing else. Whoever
settles it, settles it once; settling one whose caller left is a no-op.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol

from proxy.batching.former import Batch, Bounds, Lane, Ticket
from proxy.exchange import Reply, Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

    from proxy.batching.codecs.base import Codec, Prepared
    from proxy.errors import ProxyError
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
    """Calls that may be merged, with what is equal for all of them."""

    __slots__ = ("codec", "headers", "method", "mismatches", "model", "suspended_until", "target")

    def __init__(
        self, key: Hashable, bounds: Bounds, *, call: Call, model: str, codec: Codec, headers: Headers
    ) -> None:
        super().__init__(key, bounds)
        self.model = model
        self.codec = codec
        self.method = call.method
        self.target = call.target
        self.headers = (*headers, (b"accept-encoding", b"identity"))
        self.mismatches = 0
        self.suspended_until = 0.0


class Member(Ticket):
    """One caller's place in a lane and later in a batch."""

    __slots__ = ("call", "future", "is_done", "journey", "prepared")

    lane: CallLane

    def __init__(
        self, lane: CallLane, call: Call, prepared: Prepared, arrived_at: float, future: asyncio.Future[Reply]
    ) -> None:
        super().__init__(lane, prepared.items, prepared.nbytes, arrived_at, call.deadline)
        self.call = call
        self.prepared = prepared
        self.future = future
        self.journey: Journey | None = None
        self.is_done = False

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
    """A batch on its way: who of its members still waits, and the task that carries it."""

    __slots__ = ("batch", "companions", "task")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.companions = len(batch.members)
        self.task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """A member's caller left; the upstream call is given up with the last of them."""
        self.companions -= 1
        if not self.companions and self.task is not None:
            self.task.cancel()


def discard(reply: Reply) -> None:
    """Free what an unwanted reply holds."""
    if isinstance(reply.body, Stream):
        reply.body.abandon()
