"""Running two copies of a slow call and keeping the better outcome.

Owned by a cluster. Both copies are tasks of the coroutine that awaits `first_of`; when it returns or is
cancelled, neither is left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from proxy.exchange import Reply
from proxy.pooling.hedge import Hedge
from proxy.pooling.member import discard

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from proxy.exchange import Call
    from proxy.pooling.events import PoolEvents
    from proxy.pooling.member import Member, Outcome
    from proxy.pooling.policy import HedgePolicy

__all__ = ("Hedger", "first_of")

T = TypeVar("T")


class Hedger:
    """Sends a copy of an idempotent call that takes long to the least busy other endpoint."""

    def __init__(self, policy: HedgePolicy, events: PoolEvents) -> None:
        self._hedge = Hedge(policy.share)
        self._events = events

    async def attempt(self, call: Call, member: Member, others: Sequence[Member]) -> tuple[Member, Outcome]:
        """Try `call` at `member` and, when it takes long, at one of `others`: who answered, and what."""
        if self._hedge.delay_s is None or not others:
            result = await _attempt(call, member)
        else:
            result = await first_of(
                _attempt(call, member),
                self._hedge.delay_s,
                lambda: self._copy(call, others),
                is_good=lambda result: isinstance(result[1], Reply),
                discard=lambda result: discard(result[1]),
            )
        self._hedge.observe(call.upstream_s)
        return result

    def _copy(
        self, call: Call, others: Sequence[Member]
    ) -> Coroutine[None, None, tuple[Member, Outcome]] | None:
        if not self._hedge.take():
            return None
        self._events.hedged()
        return _attempt(call, min(others, key=lambda member: member.load))


async def _attempt(call: Call, member: Member) -> tuple[Member, Outcome]:
    return member, await member.attempt(call)


async def first_of(
    first: Coroutine[None, None, T],
    delay_s: float,
    second: Callable[[], Coroutine[None, None, T] | None],
    *,
    is_good: Callable[[T], bool],
    discard: Callable[[T], None],
) -> T:
    """The first good outcome of `first` and, if it takes longer than `delay_s`, of `second`; else the last
    one.

    `second` may decline. `discard` gets an outcome that came too late.
    """
    loop = asyncio.get_running_loop()
    pending = {loop.create_task(first)}
    done: set[asyncio.Task[T]] = set()
    chosen: asyncio.Task[T] | None = None
    try:
        done, _ = await asyncio.wait(pending, timeout=delay_s)
        copy = None if done else second()
        if copy is not None:
            pending.add(loop.create_task(copy))
        while chosen is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            chosen = next((task for task in done if is_good(task.result())), None)
            if chosen is None and not pending:
                chosen = next(iter(done))
        return chosen.result()
    finally:
        await _end(pending)
        for task in done | pending:
            if task is not chosen and not task.cancelled() and task.exception() is None:
                discard(task.result())


async def _end(tasks: set[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
