"""Takes one batch to the upstream and brings each member its answer.

Owned by the batcher, which runs `carry` in a task of its own for each batch. It waits for the upstream
only. It ends when every member is settled, or when it is cancelled because every caller left.

A batch of one is the caller's own call, forwarded as it came; so is its reply, stream or not. The answer of
a larger batch is read whole, because it can only be cut whole. A batch that fails is taken apart as
`isolation` says, if sending its members again is safe.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING

from proxy.batching.isolation import MISMATCH, NO_ANSWER, Failure, Isolation
from proxy.batching.keys import shared_fields
from proxy.batching.outcome import Answer, Outcome
from proxy.batching.tickets import discard
from proxy.errors import ProxyError, SplitMismatch
from proxy.exchange import Call, Reply, Stream, field
from proxy.http2.grpc import http_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Part
    from proxy.batching.isolation import Lesson
    from proxy.batching.tickets import BatchEvents, CallLane, Member
    from proxy.exchange import Headers, Upstream
    from proxy.timing import Clock

__all__ = ("Carrier", "outcome_of", "whole")

_MOST_ANSWER_BYTES = 256 << 20
"""An answer larger than this is not collected in memory."""

_AT_ONCE = 4
"""Calls of a batch that is being taken apart, at once, though it has one slot."""


class Carrier:
    """Sends batches to one upstream."""

    def __init__(self, upstream: Upstream, clock: Clock, events: BatchEvents) -> None:
        self._upstream = upstream
        self._clock = clock
        self._events = events

    async def carry(self, lane: CallLane, members: Sequence[Member]) -> Outcome:
        """Settle every one of `members`, who travel together."""
        if len(members) == 1:
            return await self._carry_one(members[0])
        outcome = await self._together(lane, members)
        failure = outcome.failure
        if failure is None:
            return outcome
        if failure.is_for_all or not lane.is_idempotent or lane.is_known_sick(failure, self._clock.now()):
            _tell(failure, members)
            return outcome
        return outcome._replace(lesson=await self._take_apart(lane, members, failure))

    async def _carry_one(self, member: Member) -> Outcome:
        departed_at = self._clock.now()
        try:
            reply = await self._upstream.exchange(member.call)
        except ProxyError as error:
            member.fail(error)
            return _lost(error)
        took_s = self._clock.now() - departed_at
        member.answer(reply)
        return outcome_of(member.call, reply, took_s)

    async def _together(self, lane: CallLane, members: Sequence[Member]) -> Outcome:
        """Send one call for all of `members`, and answer them unless it fails."""
        merged = self._merge(lane, members)
        departed_at = self._clock.now()
        try:
            reply = await self._upstream.exchange(merged)
            answer = await whole(merged, reply)
        except SplitMismatch:  # each alone may do
            return Outcome(reply.status, failure=Failure(MISMATCH))
        except ProxyError as error:
            return _lost(error)
        took_s = self._clock.now() - departed_at - merged.pool_s
        for member in members:
            member.call.pool_s = merged.pool_s
            member.call.upstream_s = merged.upstream_s
        parts = _cut(lane, answer, members)
        if isinstance(parts, Failure):
            return Outcome(answer.status, failure=parts)
        shared, trailers = shared_fields(reply.headers), shared_fields(answer.trailers)
        for member, (part, described) in zip(members, parts, strict=True):
            own = Reply(reply.status, shared + described, part, reason=reply.reason, source="batch")
            own.trailers = trailers
            member.answer(own)
        sets_cookies = reply.header(b"set-cookie") is not None
        return Outcome(answer.status, took_s, parts=parts, sets_cookies=sets_cookies)

    def _merge(self, lane: CallLane, members: Sequence[Member]) -> Call:
        body, described = lane.codec.merge([member.prepared for member in members])
        deadline = max(member.call.deadline for member in members)
        merged = Call(lane.method, lane.target, lane.headers + described, body, deadline=deadline)
        merged.act_for(members[0].call)
        merged.started_at = self._clock.now()
        return merged

    async def _take_apart(self, lane: CallLane, members: Sequence[Member], failure: Failure) -> Lesson:
        """Find out whose fault `failure` is, and get everybody an answer."""
        self._events.isolated(lane.model)
        isolation = Isolation([member.items for member in members], failure)
        async with asyncio.TaskGroup() as group:
            for _ in range(1 if failure.is_lost else int(min(_AT_ONCE, lane.plan.former.limit))):
                group.create_task(self._try_groups(isolation, lane, members))
        _tell(failure, [members[index] for index in isolation.abandoned])
        return isolation.lesson

    async def _try_groups(self, isolation: Isolation, lane: CallLane, members: Sequence[Member]) -> None:
        while (group := isolation.next_group()) is not None:
            group = tuple(index for index in group if not members[index].is_done)
            waiting = [members[index] for index in group]
            if len(waiting) > 1:
                outcome = await self._together(lane, waiting)
            elif waiting:
                outcome = await self._carry_one(waiting[0])
            else:
                continue
            failure = outcome.failure
            if isolation.report(group, failure) and failure is not None:
                _tell(failure, waiting)


def outcome_of(call: Call, reply: Reply, took_s: float) -> Outcome:
    """What `reply`, which came `took_s` after `call` left alone, says about the backend."""
    if isinstance(reply.body, Stream) and 200 <= reply.status < 300:
        return Outcome(reply.status)
    body = reply.body if isinstance(reply.body, bytes) else b""
    answer = Answer(_status(call, reply, reply.trailers), reply, body, reply.trailers)
    if not answer.is_success:
        return Outcome(answer.status, failure=answer.failure)
    return Outcome(answer.status, took_s - call.pool_s)


def _lost(error: ProxyError) -> Outcome:
    """No answer, and why: a lane may remember that, but not the frames in which `error` was raised."""
    return Outcome(failure=Failure(NO_ANSWER, error=copy.copy(error)))


def _status(call: Call, reply: Reply, trailers: Headers) -> int:
    return http_status(reply.status, trailers or reply.headers) if call.is_grpc else reply.status


def _cut(lane: CallLane, answer: Answer, members: Sequence[Member]) -> list[Part] | Failure:
    """The answer's parts, or why there are none."""
    if not answer.is_success:
        return answer.failure
    headers = answer.reply.headers
    if field(headers, b"content-encoding") is not None:  # identity was asked for
        return Failure(MISMATCH)
    try:
        return lane.codec.split((answer.body, headers), [member.prepared for member in members])
    except SplitMismatch:
        return Failure(MISMATCH)


def _tell(failure: Failure, members: Sequence[Member]) -> None:
    """Give each of `members` who has no answer yet the backend's."""
    error = SplitMismatch() if failure.status == MISMATCH else failure.error
    if error is not None:
        for member in members:
            member.fail(error)
        return
    shared, trailers = shared_fields(failure.headers), shared_fields(failure.trailers)
    for member in members:
        status = 200 if member.call.is_grpc else failure.status  # a gRPC status stands in the fields
        reply = Reply(status, shared, failure.body, reason=failure.reason, source="batch")
        reply.trailers = trailers
        member.answer(reply)


async def whole(call: Call, reply: Reply) -> Answer:
    """All of the reply to `call`.

    Raises the producer's `ProxyError`, or `SplitMismatch` when it is too large.
    """
    body = reply.body
    if isinstance(body, bytes):
        return Answer(_status(call, reply, reply.trailers), reply, body, reply.trailers)
    chunks, size = [], 0
    try:
        while chunk := await body.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_ANSWER_BYTES:
                raise SplitMismatch("the answer to a batch is too large")
    finally:
        discard(reply)
    return Answer(_status(call, reply, body.trailers), reply, b"".join(chunks), body.trailers)
