"""An event stream that begins before its backend's answer does, because the model is still loading.

Owned by `Streams`, for one call. The answer gets the first span of the heartbeat to come in the ordinary way,
with its own status. After that the client is told 200 and that events will come, and hears a comment in each
span; what the backend then says follows in the same stream, and what goes wrong is told in a last event,
since the status has been given away. The price of a head that is early is that it is a guess, which is why
only an operator can ask for it.

It owns the one task in which the answer is awaited. It ends when that answer has begun to pass through the
stage; or when the client leaves, which cancels the task.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.errors import BadReply, ProxyError
from proxy.exchange import Reply, Stream
from proxy.streaming.sse import media_type

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from proxy.streaming.stage import Stage
    from proxy.timing import Clock

__all__ = ("EarlyAnswer",)

log = logging.getLogger(__name__)

_HEAD = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache"),
    (b"X-Accel-Buffering", b"no"),
)
_WORDS = 512
"""Characters of a backend's refusal that its reader gets to see."""


class EarlyAnswer:
    """Awaits `work` in a task that `tasks` keeps, and answers through `stage` when that takes long.

    `begun` is told of the backend's answer before its body is passed on.
    """

    def __init__(
        self,
        work: Coroutine[None, None, Reply],
        stage: Stage,
        begun: Callable[[Reply, Stream], None],
        tasks: set[asyncio.Task[Reply]],
    ) -> None:
        self._stage = stage
        self._begun = begun
        self._has_left = False
        self._task = task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def reply(self, clock: Clock, patience_s: float) -> Reply:
        """The backend's own answer when it comes within `patience_s`, else one that begins without it.

        Raises what the backend's exchange raises within that time.
        """
        task = self._task
        is_late = asyncio.Event()
        timer = clock.call_at(clock.now() + patience_s, is_late.set)
        task.add_done_callback(lambda _task: is_late.set())
        try:
            await is_late.wait()
        except asyncio.CancelledError:
            task.cancel()
            task.add_done_callback(_let_go)
            raise
        finally:
            timer.cancel()
        if task.done():
            return task.result()
        task.add_done_callback(self._go_on)
        self._stage.out.on_close(self._leave)
        self._stage.wait()
        return Reply(200, _HEAD, self._stage.out, source="proxy")

    # ------------------------------------------------------------- the answer has come
    def _go_on(self, task: asyncio.Task[Reply]) -> None:
        stage = self._stage
        if self._has_left:
            _let_go(task)
            return
        error = task.exception()
        if error is None:
            self._pass_on(task.result())
        elif isinstance(error, ProxyError):
            stage.give_up(error)
        else:
            log.error("a call failed inside the proxy", exc_info=error)
            stage.give_up(ProxyError("internal error of the proxy"))

    def _pass_on(self, reply: Reply) -> None:
        body, stage = reply.body, self._stage
        is_events = reply.status == 200 and media_type(reply.headers) == b"text/event-stream"
        if isinstance(body, Stream):
            if is_events:
                self._begun(reply, body)
                stage.start(body)
                return
            words = body.read_nowait()
            body.abandon()
        elif is_events:
            stage.say(body)
            return
        else:
            words = body
        said = words[:_WORDS].decode("utf-8", "replace")
        stage.give_up(BadReply(f"the backend answered {reply.status}: {said}"))

    def _leave(self) -> None:
        """The client is gone, or the answer is over: then nothing is left to cancel."""
        self._has_left = True
        self._task.cancel()


def _let_go(task: asyncio.Task[Reply]) -> None:
    """Nobody wants what `task` brought, if it brought something before it could be cancelled."""
    if not task.cancelled() and task.exception() is None:
        body = task.result().body
        if isinstance(body, Stream):
            body.abandon()
