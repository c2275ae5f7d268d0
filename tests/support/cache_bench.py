"""A cache before an upstream that a test holds, and what is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.exchange import Call, Reply, Stream
from proxy.routing.table import Match, Route
from tests.support.batching import JSON_FIELDS, HeldUpstream, predict, predict_call
from tests.support.caching import PREDICT, a_cache, policy
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.caching.policy import CachePolicy

__all__ = ("CONTROL", "OTHER", "Bench", "demanding", "numbers", "raising", "saying", "streaming", "uploaded")


OTHER = Match(Route("other", "model", "generic", "other", ()))
CONTROL = Match(Route("load", "model", "open-inference", "control", ()), "digits")


class Bench:
    """A cache before a backend, with everything within reach."""

    def __init__(
        self,
        answer: Callable[[Call], Reply] = predict,
        rule: CachePolicy | None = None,
        *,
        is_held: bool = False,
        **settings: object,
    ) -> None:
        self.clock = FakeClock()
        self.upstream = HeldUpstream(answer, is_held=is_held)
        self.cache = a_cache(self.clock, **settings)
        self.rule = rule or policy()

    async def ask(self, call: Call, match: Match = PREDICT) -> Reply:
        return await self.cache.serve(call, match, self.rule, self.upstream.exchange)

    @property
    def asked(self) -> list[object]:
        """What reached the backend: the instances of each call."""
        return [msgspec.json.decode(call.body)["instances"] for call in self.upstream.calls]  # type: ignore[arg-type]


def numbers(reply: Reply) -> object:
    assert isinstance(reply.body, bytes)
    return msgspec.json.decode(reply.body)["predictions"]


def saying(*headers: tuple[bytes, bytes], status: int = 200) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        reply = predict(call)
        return Reply(status, (*reply.headers, *headers), reply.body, reason=b"OK")

    return answer


def streaming(kind: bytes = b"application/json", length: int | None = None) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        body = Stream(None, length)
        body.feed(b'{"predictions":')
        body.feed(b"[3.0]}")
        body.end()
        return Reply(200, ((b"Content-Type", kind),), body)

    return answer


def uploaded(*pieces: bytes) -> Call:
    body = Stream(None)
    for piece in pieces:
        body.feed(piece)
    body.end()
    return Call(b"POST", b"/v1/models/digits:predict", JSON_FIELDS, body)


# ------------------------------------------------------------------ what clients demand
def demanding(directive: bytes) -> Call:
    return predict_call(1.5, headers=(*JSON_FIELDS, (b"Cache-Control", directive)))


def raising(error: Exception) -> Callable[[Call], Reply]:
    def answer(call: Call) -> Reply:
        raise error

    return answer
