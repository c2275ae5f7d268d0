"""Takes one batch to the upstream and brings each member its answer.

Owned by the batcher, which runs `carry` in a task of its own for each batch. It waits for the upstream
only. It ends when every member is settled, or when it is cancelled because every caller left.

A batch of one is the caller's own call, forwarded as it came; so is its reply, stream or not. The answer of
a larger batch is read whole, because it can only be cut whole.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.batching.keys import shared_fields
from proxy.batching.tickets import discard
from proxy.errors import BadReply, ProxyError, SplitMismatch
from proxy.exchange import Call, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from proxy.batching.former import Batch
    from proxy.batching.tickets import BatchEvents, CallLane, Member
    from proxy.exchange import Upstream
    from proxy.timing import Clock

__all__ = ("Carrier",)

_SAME_FOR_ALL = frozenset((401, 403, 404, 405, 406, 407))
"""Statuses that speak of the path or the credentials, which all members share."""

_MOST_ANSWER_BYTES = 256 << 20
"""An answer larger than this is not collected in memory."""

_MISMATCHES_TO_SUSPEND = 3
_SUSPENSION_S = 60.0
_SINGLES_AT_ONCE = 4


class Carrier:
    """Sends batches to one upstream."""

    def __init__(self, upstream: Upstream, clock: Clock, events: BatchEvents) -> None:
        self._upstream = upstream
        self._clock = clock
        self._events = events

    async def carry(self, lane: CallLane, batch: Batch, members: Sequence[Member]) -> None:
        """Settle every one of `members`, who travel in `batch`."""
        self._events.batched(lane.model, batch.items, batch.trigger, batch.wait_s)
        for member in members:
            waited_s = batch.sent_at - member.arrived_at
            member.call.queue_s = waited_s
            member.call.batch = b"size=%d; wait=%.1fms; trigger=%b" % (
                batch.items,
                waited_s * 1e3,
                batch.trigger.encode(),
            )
        if len(members) == 1:
            await self._alone(members[0])
        else:
            await self._together(lane, members)

    async def _alone(self, member: Member) -> None:
        try:
            member.answer(await self._upstream.exchange(member.call))
        except ProxyError as error:
            member.fail(error)

    async def _together(self, lane: CallLane, members: Sequence[Member]) -> None:
        merged = self._merge(lane, members)
        try:
            reply = await self._upstream.exchange(merged)
            body = await _whole(reply)
        except ProxyError as error:
            for member in members:
                member.fail(error)
            return
        for member in members:
            member.call.pool_s = merged.pool_s
            member.call.upstream_s = merged.upstream_s
        if reply.status in _SAME_FOR_ALL:
            self._copy(reply, body, members)
        elif not _can_split(reply) or not self._split(lane, reply, body, members):
            await self._apart(lane, members)

    def _merge(self, lane: CallLane, members: Sequence[Member]) -> Call:
        body, described = lane.codec.merge([member.prepared for member in members])
        deadline = max(member.call.deadline for member in members)
        merged = Call(lane.method, lane.target, lane.headers + described, body, deadline=deadline)
        merged.scheme = members[0].call.scheme
        merged.dialect = members[0].call.dialect
        merged.idempotent = members[0].call.idempotent
        merged.started_at = self._clock.now()
        return merged

    def _split(self, lane: CallLane, reply: Reply, body: bytes, members: Sequence[Member]) -> bool:
        """Answer each member with its part; False when the answer cannot be cut."""
        try:
            prepared = [member.prepared for member in members]
            parts = lane.codec.split((body, reply.headers), prepared)
        except SplitMismatch:
            self._suspect(lane)
            return False
        shared = shared_fields(reply.headers)
        status, reason = reply.status, reply.reason
        for member, (part, described) in zip(members, parts, strict=True):
            member.answer(Reply(status, shared + described, part, reason=reason, source="batch"))
        return True

    def _suspect(self, lane: CallLane) -> None:
        lane.mismatches += 1
        if lane.mismatches >= _MISMATCHES_TO_SUSPEND:
            lane.mismatches = 0
            lane.suspended_until = self._clock.now() + _SUSPENSION_S

    def _copy(self, reply: Reply, body: bytes, members: Sequence[Member]) -> None:
        shared = shared_fields(reply.headers)
        for member in members:
            member.answer(Reply(reply.status, shared, body, reason=reply.reason, source="batch"))

    async def _apart(self, lane: CallLane, members: Sequence[Member]) -> None:
        """Send each member's own call, a few at once."""
        self._events.isolated(lane.model)
        waiting = iter(members)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(members), _SINGLES_AT_ONCE)):
                group.create_task(self._one_by_one(waiting))

    async def _one_by_one(self, waiting: Iterator[Member]) -> None:
        for member in waiting:
            if not member.is_done:
                await self._alone(member)


async def _whole(reply: Reply) -> bytes:
    """The reply's whole body; raises the producer's `ProxyError`, or `BadReply` when it is too large."""
    body = reply.body
    if isinstance(body, bytes):
        return body
    chunks, size = [], 0
    try:
        while chunk := await body.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_ANSWER_BYTES:
                raise BadReply("the answer to a batch is too large")
    finally:
        discard(reply)
    return b"".join(chunks)


def _can_split(reply: Reply) -> bool:
    """Whether the answer is a success whose bytes are the codec's (identity encoding was asked for)."""
    return 200 <= reply.status < 300 and reply.header(b"content-encoding") is None
