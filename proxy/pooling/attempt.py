"""A call that was sent without a task, until its endpoint has answered.

Owned by the channel that carries it. It tells the pool and the circuit what came of the call, passes a good
answer on within the same turn of the loop, and leaves anything else to a coroutine, which may wait, try again
or try elsewhere.

What it sent refers to it and it to what it sent; it lets go at the end, so that no call waits for the garbage
collector, which would cost more than the rest of the call.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from proxy.errors import UpstreamError
from proxy.exchange import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from proxy.errors import ProxyError
    from proxy.exchange import Call, Reply, Taker
    from proxy.pooling.channel_call import ChannelCall
    from proxy.pooling.channel_pool import ChannelPool
    from proxy.pooling.member import Member, Outcome

    Settle = Callable[[Call, Member, Outcome], Coroutine[Any, Any, Reply]]

__all__ = ("Attempt",)


class Attempt:
    """Implements `channel_call.Answer` and `Begun`; `settle` makes the best of a bad outcome."""

    __slots__ = ("_call", "_is_done", "_member", "_pool", "_settle", "_taker", "sent")

    def __init__(self, call: Call, taker: Taker, member: Member, pool: ChannelPool, settle: Settle) -> None:
        self.sent: ChannelCall | None = None
        self._call = call
        self._taker = taker
        self._member = member
        self._pool = pool
        self._settle = settle
        self._is_done = False

    # ------------------------------------------------------------- Begun
    def cancel(self) -> None:
        """Nobody wants the outcome."""
        self._is_done = True
        sent, self.sent = self.sent, None
        if sent is not None:
            sent.abandon()

    # ------------------------------------------------------------- Answer
    def done(self) -> bool:
        """Whether nobody waits for an outcome any more."""
        return self._is_done

    def set_result(self, reply: Reply, /) -> None:
        """The endpoint has answered."""
        self._is_done = True
        sent, member = self.sent, self._member
        if not isinstance(reply.body, Stream):
            self.sent = None
        status = reply.status if sent is None else self._pool.answered(sent, reply)
        if status >= 500 and status != 501:  # a method that nobody has is nobody's failure
            self._taker.go_on(partial(self._settle, self._call, member, reply))
            return
        if member.ejection.failures:
            member.succeeded()
        self._taker.take(reply)

    def set_exception(self, error: ProxyError, /) -> None:
        """The endpoint has not answered."""
        self._is_done = True
        self.sent = None
        if isinstance(error, UpstreamError):
            self._taker.go_on(partial(self._recover, error))
        else:
            self._taker.fail(error)

    async def _recover(self, error: UpstreamError) -> Reply:
        try:
            outcome: Outcome = await self._pool.repeat(self._call, error)
        except UpstreamError as last:
            outcome = last
        return await self._settle(self._call, self._member, outcome)
