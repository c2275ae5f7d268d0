"""A call on its way without a task, between the upstream that carries it and the listener that waits for it.

Made by the pipeline for each call that it begins, owned by its listener's call. It waits for nothing: it
hears the outcome, has it accounted for and hands it on, and ends with that, or when the client leaves.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy.errors import ClientGone
from proxy.exchange import Stream

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from proxy.errors import ProxyError
    from proxy.exchange import Begun, Call, Reply, Rest, Taker
    from proxy.loading.gate import Visit
    from proxy.routing.table import Match

__all__ = ("Accountant", "Passage")


class Accountant(Protocol):
    """What a passage needs of the pipeline."""

    def answered(self, call: Call, match: Match, reply: Reply) -> None:
        """`call` has got `reply`."""

    def lost(self, call: Call, match: Match, error: BaseException) -> None:
        """`call` has got nothing."""

    def finish(
        self, call: Call, match: Match, rest: Rest, visit: Visit | None
    ) -> Coroutine[None, None, Reply]:
        """The answer that `rest` brings, accounted for."""


class Passage:
    """See the module's text; implements `Taker` for the upstream and `Begun` for the listener.

    `visit` is the call's stay with a managed model, if it is for one. What was `begun` is let go of once it
    is over, as the two refer to each other.
    """

    __slots__ = ("_call", "_match", "_pipeline", "_taker", "begun", "visit")

    def __init__(self, pipeline: Accountant, call: Call, match: Match, taker: Taker) -> None:
        self.begun: Begun | None = None
        self.visit: Visit | None = None
        self._pipeline = pipeline
        self._call = call
        self._match = match
        self._taker = taker

    def take(self, reply: Reply) -> None:
        """The upstream has answered."""
        is_done = not isinstance(reply.body, Stream) and (
            self.visit is None or self.visit.is_settled_by(reply)
        )
        if not is_done:
            self.go_on(partial(_ready, reply))
            return
        self.begun = None
        self._pipeline.answered(self._call, self._match, reply)
        self._taker.take(reply)

    def fail(self, error: ProxyError) -> None:
        """It has not."""
        self.begun = None
        if self.visit is not None:
            self.visit.end()
        self._pipeline.lost(self._call, self._match, error)
        self._taker.fail(error)

    def go_on(self, rest: Rest) -> None:
        """It may yet."""
        self._taker.go_on(partial(self._finish, rest))

    def _finish(self, rest: Rest) -> Coroutine[None, None, Reply]:
        self.begun = None  # from here on it is the task that is cancelled
        return self._pipeline.finish(self._call, self._match, rest, self.visit)

    def cancel(self) -> None:
        """The client has left."""
        begun, self.begun = self.begun, None
        if begun is not None:
            begun.cancel()
        if self.visit is not None:
            self.visit.end()
        self._pipeline.lost(self._call, self._match, ClientGone())


async def _ready(reply: Reply) -> Reply:
    return reply
