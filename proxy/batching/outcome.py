"""What comes back: one whole answer, and what a batch's first exchange came to (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.batching.isolation import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Part
    from proxy.batching.isolation import Lesson
    from proxy.exchange import Headers, Reply

__all__ = ("Answer", "Outcome")


class Outcome(NamedTuple):
    """What became of a batch's first exchange, and what taking it apart taught.

    `status` is 0 without an answer. `seconds` is the backend's time for it, 0 when that says nothing about
    the model. `failure` is an answer that was no success; `parts` are those that the members got.
    """

    status: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    parts: Sequence[Part] = ()
    sets_cookies: bool = False
    lesson: Lesson | None = None


class Answer(NamedTuple):
    """A whole answer; `status` is what it means in HTTP's terms."""

    status: int
    reply: Reply
    body: bytes
    trailers: Headers

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300

    @property
    def failure(self) -> Failure:
        """The same, for whoever looks for the culprit."""
        reply = self.reply
        return Failure(self.status, reply.headers, self.body, reply.reason, self.trailers)
