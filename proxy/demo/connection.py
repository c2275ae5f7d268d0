"""One client's connection to the demo server.

Owned by the server. It waits for bytes, for its job and for its script's timer, and ends with the transport.
Requests of one connection are served one after the other; what is pipelined waits. The fast path, an answer
that costs nothing and has no fault, is one write from within `data_received`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

import httptools

from proxy.demo import faults
from proxy.demo.messages import (
    Answer,
    ApiError,
    Close,
    Inference,
    Load,
    Outcome,
    Request,
    Send,
    Step,
    Steps,
    Wait,
    error_answer,
)
from proxy.demo.service import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.demo.executor import Job
    from proxy.demo.faults import Fault
    from proxy.demo.finetimer import Handle
    from proxy.demo.server import DemoServer

__all__ = ("Connection",)

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: close sends RST."""


class Connection(asyncio.Protocol):
    """Reads requests, executes outcomes, plays scripts."""

    __slots__ = (
        "_body",
        "_early",
        "_headers",
        "_idle_since",
        "_idle_timer",
        "_is_busy",
        "_is_closing",
        "_is_writable",
        "_job",
        "_parser",
        "_pending",
        "_script",
        "_server",
        "_target",
        "_timer",
        "_transport",
    )

    def __init__(self, server: DemoServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._pending: deque[Request] = deque()
        self._early: list[bytes] | None = None
        self._is_busy = False
        self._is_closing = False
        self._is_writable = True
        self._script: Iterator[Step] | None = None
        self._timer: Handle | None = None
        self._idle_since = 0.0
        self._idle_timer: Handle | None = None
        self._job: Job | None = None

    # ------------------------------------------------------------- transport
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake's cost is paid before anything is read."""
        self._transport = cast("asyncio.Transport", transport)  # create_server makes no other kind
        self._server.connected(self)
        span_s = self._server.options.handshake_s
        if span_s:
            self._early = []
            self._timer = self._server.timer.call_later(span_s, self._handshaken)
        else:
            self._went_idle()

    def _handshaken(self) -> None:
        early, self._early, self._timer = self._early, None, None
        self._went_idle()
        for data in early or ():
            self.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Queued work is withdrawn; work in progress runs on for nobody."""
        self._server.disconnected(self)
        self._is_closing = True
        for handle in (self._timer, self._idle_timer, self._job):
            if handle is not None:
                handle.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than the script writes."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on with the script."""
        self._is_writable = True
        if self._script is not None and self._timer is None:
            self._play()

    def data_received(self, data: bytes) -> None:
        """Bytes of one or more requests."""
        if self._early is not None:
            self._early.append(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse("upgrades are not supported")
        except httptools.HttpParserError as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        if not self._is_closing:
            self._transport.write(error_answer(ApiError(400, why)).render(keep_alive=False))
            self.close()

    # ------------------------------------------------------------- parser
    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; a client that waits for permission to send its body gets it."""
        name = name.lower()
        self._headers.append((name, value))
        if name == b"expect":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        body = self._body
        request = Request(
            self._parser.get_method(),
            self._target,
            self._headers,
            body[0] if len(body) == 1 else b"".join(body),
        )
        request.version = self._parser.get_http_version()
        request.keep_alive = request.version != "1.0" and self._parser.should_keep_alive()
        self._target, self._headers, self._body = b"", [], []
        if self._is_busy:
            self._pending.append(request)
        else:
            self._serve(request)

    # ------------------------------------------------------------- requests
    def _serve(self, request: Request) -> None:
        if self._is_closing:
            return
        self._is_busy = True
        server = self._server
        if request.path.startswith(CONTROL):
            self._execute(request, server.service.decide(request), [])
            return
        server.stats.requests += 1
        due = server.due_faults(request)
        status = faults.forced_status(due) if due else None
        if status is not None:
            self._answer(request, error_answer(ApiError(status, "asked for")), due)
        else:
            self._execute(request, server.service.decide(request), due)

    def _execute(self, request: Request, outcome: Outcome, due: list[Fault]) -> None:
        match outcome:
            case Answer():
                self._answer(request, outcome, due)
            case Inference():
                self._job = self._server.infer(
                    request, outcome, lambda answer: self._answer(request, answer, due)
                )
            case Load():
                self._server.load(outcome.model, lambda: self._answer(request, outcome.answer, due))
            case Steps():
                self._begin(request, outcome.steps, due)

    def _answer(self, request: Request, answer: Answer, due: list[Fault]) -> None:
        self._job = None
        if self._is_closing:
            return
        if due:
            data = faults.alter(answer, due).render(keep_alive=request.keep_alive)
            self._begin(request, iter((Send(data),)), due)
            return
        self._transport.write(answer.render(keep_alive=request.keep_alive))
        self._finish(keep_alive=request.keep_alive)

    def _finish(self, *, keep_alive: bool) -> None:
        if not keep_alive:
            self.close()
        elif self._pending:  # still busy; by way of the loop, or a long pipeline would recurse
            self._server.timer.call_later(0.0, partial(self._serve, self._pending.popleft()))
        else:
            self._is_busy = False
            self._went_idle()

    def _went_idle(self) -> None:
        span_s = self._server.options.keepalive_s
        if not span_s:
            return
        self._idle_since = self._server.timer.now()
        if self._idle_timer is None:  # one for the connection's life, not one for each request
            self._idle_timer = self._server.timer.call_later(span_s, self._check_idle)

    def _check_idle(self) -> None:
        self._idle_timer = None
        if self._is_busy:
            return
        due = self._idle_since + self._server.options.keepalive_s
        if self._server.timer.now() >= due:
            self.close()
        else:
            self._idle_timer = self._server.timer.call_at(due, self._check_idle)

    # ------------------------------------------------------------- scripts
    def _begin(self, request: Request, steps: Iterator[Step], due: list[Fault]) -> None:
        if not request.keep_alive:
            steps = _then_close(steps)
        self._script = faults.rewrite(steps, due)
        self._play()

    def _play(self) -> None:
        self._timer = None
        script = self._script
        while script is not None and self._is_writable and not self._is_closing:
            step = next(script, None)
            match step:
                case Send(data):
                    self._transport.write(data)
                case Wait(span_s):
                    self._timer = self._server.timer.call_later(span_s, self._play)
                    return
                case None:
                    self._script = None
                    self._finish(keep_alive=True)
                    return
                case Close():
                    self.close()
                case _:
                    self.reset()

    def close(self) -> None:
        """FIN after what was written."""
        self._is_closing = True
        self._transport.close()

    def reset(self) -> None:
        """RST, unless the client has already gone."""
        self._is_closing = True
        peer = self._transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def abort(self) -> None:
        """Drop the connection: the server stops."""
        self._is_closing = True
        self._transport.abort()


def _then_close(steps: Iterator[Step]) -> Iterator[Step]:
    yield from steps
    yield Close()
