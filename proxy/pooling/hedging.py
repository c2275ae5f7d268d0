"""Running two copies of a slow call and keeping the better outcome.

Owned by a cluster. Both copies are tasks of the coroutine that awaits `first_of`; when it returns or is
cancelled, neither is left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from proxy.errors import LeaseTimeout, Shed
from proxy.pooling.hedge import Hedge
from proxy.pooling.member import discard, is_good

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

    def __init__(self, policy: HedgePolicy, events: PoolEvents, *, is_grpc: bool) -> None:
        self._hedge = Hedge(policy.share)
        self._is_grpc = is_grpc
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
                is_good=lambda result: is_good(result[1], is_grpc=self._is_grpc),
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
        return _attempt_copy(call, min(others, key=lambda member: member.load))


async def _attempt(call: Call, member: Member) -> tuple[Member, Outcome]:
    return member, await member.attempt(call)


async def _attempt_copy(call: Call, member: Member) -> tuple[Member, Outcome]:
    try:
        return await _attempt(call, member)
    except Shed as error:  # what keeps the copy waiting or refuses it must not end the first
        return member, LeaseTimeout(str(error), retry_after_s=error.retry_after_s)


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

    `second` may decline. `discard` gets the outcome that was not wanted.
    """
    loop = asyncio.get_running_loop()
    started = [loop.create_task(first)]
    pending = set(started)
    chosen: asyncio.Task[T] | None = None
    try:
        done, _ = await asyncio.wait(pending, timeout=delay_s)
        copy = None if done else second()
        if copy is not None:
            started.append(loop.create_task(copy))
            pending.add(started[-1])
        while chosen is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            chosen = next((task for task in done if is_good(task.result())), None)
            if chosen is None and not pending:
                chosen = next(iter(done))
        return chosen.result()
    finally:
        await _end(pending)
        for task in started:
            if task is not chosen and not task.cancelled() and task.exception() is None:
                discard(task.result())


async def _end(tasks: set[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
