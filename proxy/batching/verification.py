"""Sends batched calls once more alone, a share of them, and bars the model whose answers differ.

Owned by the batcher, which runs each comparison in a task of its own. It waits for the upstream only, and
nobody waits for it. It ends with its two answers.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.batching.carrier import whole
from proxy.batching.codecs.base import Reader
from proxy.batching.verify import is_same, read_json
from proxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from proxy.batching.experience import Experience
    from proxy.batching.outcome import Outcome
    from proxy.batching.tickets import Journey, Member
    from proxy.exchange import Call, Upstream

__all__ = ("Verification",)

_log = logging.getLogger("pillion.batching")


class Verification:
    """The comparisons of one upstream's answers; what they find goes into `experience`."""

    def __init__(self, upstream: Upstream, experience: Experience) -> None:
        self._upstream = upstream
        self._experience = experience

    def of(self, journey: Journey, outcome: Outcome) -> Coroutine[None, None, None] | None:
        """The comparison that is due after `journey`, if one is."""
        if not outcome.parts or not journey.lane.is_idempotent:
            return None
        index = journey.lane.plan.sampler.pick(len(journey.members))
        return None if index is None else self._compare(journey.members[index], outcome.parts[index][0])

    async def _compare(self, member: Member, part: bytes) -> None:
        company = self._experience.company
        company.enter()
        try:
            is_confirmed = await self._confirms(member, part)
        finally:
            company.leave()
        model = member.home.model
        if is_confirmed is False and model not in self._experience.barred:  # others may have been under way
            self._experience.bar(model, "answers_differ")
            _log.error(
                "model %r answers differently in a batch than alone: it is not batched any more", model
            )

    async def _confirms(self, member: Member, part: bytes) -> bool | None:
        """Whether `member`'s call, sent alone, is answered with `part`.

        None when that cannot be told: the call fails now, or two answers to it differ among themselves.
        """
        codec = member.home.codec
        read = codec.read if isinstance(codec, Reader) else read_json
        first = await self._ask_again(member.call)
        if first is None:
            return None
        if is_same(first, part, read):
            return True
        second = await self._ask_again(member.call)
        return None if second is None or not is_same(first, second, read) else False

    async def _ask_again(self, call: Call) -> bytes | None:
        again = call.repeated()
        try:
            answer = await whole(again, await self._upstream.exchange(again))
        except ProxyError:
            return None
        is_plain = answer.status == 200 and answer.reply.header(b"content-encoding") is None
        return answer.body if is_plain else None
