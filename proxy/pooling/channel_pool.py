"""The HTTP/2 channels to one gRPC endpoint: the shell that executes what `channel_core` decides.

Owned by a cluster (or directly by the application). It waits for calls to exchange, owns the tasks that dial
and the one alarm that looks after deadlines, tickets, ages and idleness, and ends with `close`, after which
it holds no task, timer or socket. One event loop owns one pool; nothing here needs a lock.

A call that the backend says it has not looked at (REFUSED_STREAM, GOAWAY) is sent again on another channel:
that is how a backend restarts without a failed call. It is sent at once, and then after short pauses: there
are servers that still count a stream for a moment when we have its last byte. One whose connection broke is
sent again, once in its life, if it may be repeated and nothing of its answer had come.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NoReturn

from proxy.errors import DeadlineExceeded, LeaseTimeout, ProxyError, QueueFull, Reset, StreamRefused
from proxy.http2.blocks import BlockWriter
from proxy.http2.intake import ReadBuffer
from proxy.pooling.alarm import Alarm, sleep
from proxy.pooling.backoff import backoff_s
from proxy.pooling.channel import Channel
from proxy.pooling.channel_core import ChannelCore, Gauged
from proxy.pooling.concurrency import Gradient
from proxy.pooling.pool_core import Ticket
from proxy.pooling.retry import is_idempotent
from proxy.pooling.verdict import grpc_status

if TYPE_CHECKING:
    from proxy.errors import UpstreamError
    from proxy.exchange import Call, Reply
    from proxy.pooling.channel_call import Answer, ChannelCall
    from proxy.pooling.context import PoolContext
    from proxy.pooling.policy import RetryPolicy

__all__ = ("ChannelPool",)

_REPEATS: Final = 10  # the pauses between them come to a fifth of a second
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1

_Claim = asyncio.Future[Channel]


class ChannelPool(Gauged[Channel, _Claim]):
    """Implements `Upstream` for one gRPC endpoint; see the module's text."""

    def __init__(self, context: PoolContext) -> None:
        policy, endpoint = context.policy, context.endpoint
        limiter = Gradient(policy.concurrency) if policy.concurrency.mode == "adaptive" else None
        super().__init__(ChannelCore(policy.pool.grpc, context.random, limiter))
        self.clock = context.clock
        self.timeouts = policy.timeouts
        self.ping_s = policy.pool.grpc.ping
        self.authority = endpoint.authority
        self.scheme = b"https" if endpoint.is_tls else b"http"
        self.writer = BlockWriter()
        self.buffer = ReadBuffer()
        self.alarm = Alarm(self.clock, self._look_after)
        self._policy = policy.pool.grpc
        self._retry = policy.retry
        self._dialer = context.dialer
        self._events = context.events
        self._on_trouble = context.on_trouble
        self._now = self.clock.now
        self._random = context.random
        self._is_limited = limiter is not None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        context.dialer.on_gone = self._retire_addresses

    # ------------------------------------------------------------- Upstream
    async def exchange(self, call: Call) -> Reply:
        """Send `call` on the least loaded channel and return the answer, which may still be arriving.

        Raises QueueFull, LeaseTimeout, ConnectFailed, ConnectTimeout, Reset, StreamReset, StreamRefused,
        ReadTimeout, BadReply or DeadlineExceeded. A body of which nothing was taken yet is left to the
        caller."""
        try:
            return await self._try(call)
        except (StreamRefused, Reset) as error:
            return await self.repeat(call, error)

    async def repeat(self, call: Call, error: UpstreamError) -> Reply:
        """Send `call` again where that is harmless after `error`; raises as `exchange` does."""
        repeats = 0
        while True:
            if repeats == _REPEATS or not _may_repeat(call, error, self._retry):
                _raise(call, error)
            if repeats:  # a rolling restart may refuse a call on more than one channel
                pause_s = backoff_s(repeats, _FIRST_PAUSE_S, _LONGEST_PAUSE_S) * self._random()
                await sleep(self.clock, min(pause_s, call.deadline - self._now()))
            repeats += 1
            call.was_repeated = call.was_repeated or not isinstance(error, StreamRefused)
            self._events.stale()
            try:
                return await self._try(call)
            except (StreamRefused, Reset) as again:
                error = again

    def take(self) -> Channel | None:
        """A channel with room; an idle one must not have been hung up on while nobody looked."""
        while (channel := self._core.pick()) is not None:
            if channel.load or not channel.is_hung_up():
                return channel
            channel.close()
        return None

    def send(self, channel: Channel, call: Call, answer: Answer) -> ChannelCall:
        """Send `call` on a channel that was taken; the `answer` gets what this first try comes to."""
        if channel.uses:
            self._events.reused()
        sent = channel.send(call, self._now(), answer)
        if self._is_limited:
            sent.company = self._core.calls
        if channel.load >= self._policy.streams:
            self._dial_as_needed()
        return sent

    def answered(self, sent: ChannelCall, reply: Reply) -> int:
        """A call has got its `reply`: how it ended, in HTTP's terms."""
        sent.call.upstream_s = span_s = self._now() - sent.sent_at
        status = grpc_status(reply)
        self._events.answered(status, span_s)
        if self._is_limited:
            self._core.sample(span_s, sent.company)
        return status

    async def _try(self, call: Call) -> Reply:
        channel = self.take() or await self._wait(call)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        sent = self.send(channel, call, answer)
        try:
            reply = await answer
        except asyncio.CancelledError:
            channel.forsake(sent)
            raise
        self.answered(sent, reply)
        return reply

    def keep_warm(self) -> None:
        """The endpoint is healthy: have the minimum of channels open."""
        self._core.is_started = True
        self._dial_as_needed()

    async def close(self) -> None:
        """Close every channel and fail whoever waits; returns when nothing is left."""
        self._is_closed = True
        self.alarm.cancel()
        for ticket in self._core.give_up(math.inf):
            _fail(ticket, Reset("the pool was closed"))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in (*self._core.channels, *self._core.draining):
            channel.close()

    # ------------------------------------------------------------- Owner of channels
    def has_room(self, channel: Channel) -> None:
        """A call is over, or the peer's limit moved: serve whoever waits."""
        waiting = self._core.waiting
        if not waiting:
            return
        room = self._core.room(channel)
        for _ in range(room):
            claim = waiting.popleft().claim
            if not claim.done():
                claim.set_result(channel)
        if waiting and room == channel.capacity:  # not the concurrency limit is in the way
            self._dial_as_needed()

    def drains(self, channel: Channel) -> None:
        """The backend takes no new calls on this channel: fill its place."""
        if not self._is_closed:
            self._core.drains(channel)
            self._dial_as_needed()

    def lost(self, channel: Channel) -> None:
        """The channel is gone; its place is filled when the next call needs it."""
        is_sudden = channel not in self._core.draining
        self._core.forget(channel)
        self._events.closed("local" if self._is_closed or not is_sudden else "error", channel.uses)
        if is_sudden and not self._is_closed:
            self._on_trouble()
        if self._core.waiting:
            self._dial_as_needed()

    # ------------------------------------------------------------- waiting
    async def _wait(self, call: Call) -> Channel:
        """Wait for a channel with room; fills in ``pool_s``."""
        self._core.is_started = True
        now = self._now()
        give_up_at = min(now + self._policy.wait, call.deadline)
        try:
            while True:
                channel = await self._grant(give_up_at)
                if channel.capacity and not self._core.is_at_limit:
                    return channel
        except LeaseTimeout as error:
            if give_up_at < call.deadline:
                raise
            raise DeadlineExceeded("the deadline passed before a channel was free") from error
        finally:
            call.pool_s += (span_s := self._now() - now)
            self._events.waited(span_s)

    async def _grant(self, give_up_at: float) -> Channel:
        """Wait in the queue; by the time it returns the channel may have no room any more."""
        claim: _Claim = asyncio.get_running_loop().create_future()
        ticket = Ticket(claim, give_up_at)
        if not self._core.enqueue(ticket):
            raise QueueFull("too many calls wait for a channel", retry_after_s=1)
        self.alarm.arm(give_up_at)
        self._dial_as_needed()
        try:
            return await claim
        except asyncio.CancelledError:
            self._core.withdraw(ticket)
            if not claim.cancelled() and claim.exception() is None:
                self.has_room(claim.result())  # what it was given is the next one's
            raise

    # ------------------------------------------------------------- dialing
    def _dial_as_needed(self) -> None:
        if self._is_closed:
            return
        for _ in range(self._core.dials_wanted(self._now())):
            self._core.dialing += 1
            task = asyncio.get_running_loop().create_task(self._dial())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self) -> None:
        began = self._now()
        try:
            channel, address = await self._dialer.dial(lambda: Channel(self), self._policy.connect)
        except ProxyError as error:
            self._events.connected(error.reason, self._now() - began)
            self._on_trouble()
            _fail(self._core.dial_failed(self._now()), error)
            if self._core.waiting:
                self._dial_as_needed()
        except BaseException:
            self._core.dialing -= 1
            raise
        else:
            now = self._now()
            self._events.connected("ok", now - began)
            channel.address = address
            self._core.dialed(channel, now)
            self.alarm.arm(self._core.next_due() or math.inf)
            self.has_room(channel)

    def _retire_addresses(self, gone: frozenset[str]) -> None:
        """The endpoint's name stands for other addresses now: calls in progress end where they are."""
        moved = [channel for channel in self._core.channels if channel.address in gone]
        for channel in moved:
            self._core.drains(channel)
            channel.retire()
        if moved:
            self._dial_as_needed()

    # ------------------------------------------------------------- the alarm
    def _look_after(self, now: float) -> float:
        """Expire what is due; the instant at which something will be due next."""
        core = self._core
        for ticket in core.give_up(now):
            _fail(ticket, LeaseTimeout("no channel became free in time", retry_after_s=1))
        retired = core.due_to_retire(now)
        for channel in retired:
            channel.retire()
        if retired:
            self._dial_as_needed()
        next_due = core.next_due()
        return min(
            math.inf if next_due is None else next_due,
            min((ticket.give_up_at for ticket in core.waiting), default=math.inf),
            min((channel.expire(now) for channel in (*core.channels, *core.draining)), default=math.inf),
        )


def _may_repeat(call: Call, error: UpstreamError, retry: RetryPolicy) -> bool:
    """Whether nothing was done with the call yet, or doing it again does no harm."""
    if isinstance(error, StreamRefused):
        return _is_untouched(call)
    return not call.was_repeated and is_idempotent(call, retry)


def _raise(call: Call, error: UpstreamError) -> NoReturn:
    """Raise `error` as whoever may try another endpoint must see it."""
    if isinstance(error, StreamRefused) and not _is_untouched(call):
        raise Reset(str(error)) from error  # part of the body is gone: it cannot be sent again
    raise error


def _is_untouched(call: Call) -> bool:
    """Whether the whole request is still at hand."""
    body = call.body
    return isinstance(body, bytes) or (body.delivered == 0 and not body.error)


def _fail(ticket: Ticket[_Claim] | None, error: ProxyError) -> None:
    if ticket is not None and not ticket.claim.done():
        ticket.claim.set_exception(error)
