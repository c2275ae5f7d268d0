"""One call on an HTTP/2 connection: gathers its request, serves it, writes its answer.

The connection owns it, with its one task. A request whose body came whole in one read enters the pipeline as
bytes; so does a plain one that says it is small. Any other enters at once, with a `Stream` that is fed frame
by frame. The call is the `Flow` of that stream: its reader paces the client through the stream's window,
since nothing is credited while the reader is paused.

The task ends with the answer written, or cancelled by `break_off`. What the client still sends by then is
refused with RST_STREAM (NO_ERROR), as RFC 9113 §8.1 has it.

What a listener asks of HTTP/1.1 requests holds here too: the same rules judge the head, the same identifiers
are given. A plain answer gets `Date`, `Via` and the request's id; a gRPC answer goes out as it came, since
its fields are its caller's metadata."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import BodyTooLarge, ClientGone, ProxyError, StreamReset
from proxy.exchange import Call, Reply, Stream, field
from proxy.http2.errors import ErrorCode
from proxy.http2.grpc import MessageMeter, status_headers
from proxy.ingress.headers import body_allowed, timing_fields
from proxy.ingress.parser import Arrival
from proxy.ingress.replies import error_reply
from proxy.timing import Deadline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from proxy.exchange import Body, Headers, Ledger
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.headers import RequestHead
    from proxy.http2.session import ServerSession
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.head import Head
    from proxy.ingress.rules import HeadRules
    from proxy.ingress.server import Serve

__all__ = ("CallLink", "CallListener", "ClientCall")

log = logging.getLogger(__name__)

# A plain body of known length that is no larger is handed over whole, so that it can be batched and cached.
_SMALL_BODY: Final = 64 << 10
_HIGH_WATER: Final = 256 << 10


class CallListener(Protocol):
    """What a call needs of its listener; `new_ids` makes a trace id and a span id."""

    pipeline: Serve
    rules: HeadRules
    ledger: Ledger
    new_ids: Callable[[], tuple[bytes, bytes]]

    @property
    def date(self) -> bytes:
        """An IMF-fixdate."""


class CallLink(Protocol):
    """What a call needs of its connection."""

    session: ServerSession
    writer: BlockWriter
    hop: Hop

    @property
    def listener(self) -> CallListener:
        """What the connections share."""

    def now(self) -> float:
        """Seconds on the clock."""

    def wake(self) -> None:
        """Something was sent on the session."""

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a call's `serve` as a task of the connection."""

    def forget(self, stream_id: int) -> None:
        """The call is over."""

    async def room(self, stream_id: int) -> bool:
        """Wait until the client has taken what was sent."""

    async def send_body(self, stream_id: int, body: Stream) -> bool:
        """Relay a body to its end."""


class ClientCall:
    """See the module's text. `verdict` is the judged head, or why it is refused."""

    __slots__ = (
        "_chunks",
        "_is_paused",
        "_link",
        "_meter",
        "_request",
        "_request_id",
        "_size",
        "_stream",
        "_task",
        "_uncredited",
        "_verdict",
        "stream_id",
    )

    def __init__(
        self, link: CallLink, stream_id: int, request: RequestHead, verdict: Head | ProxyError
    ) -> None:
        self.stream_id = stream_id
        self._link = link
        self._request = request
        self._verdict = verdict
        self._request_id = b""
        self._chunks: list[bytes] = []
        self._size = 0
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self._uncredited = 0
        most = link.listener.rules.limits.message
        self._meter = MessageMeter(most) if most and request.is_grpc else None

    @property
    def is_started(self) -> bool:
        """Whether the call has its task."""
        return self._task is not None

    # ------------------------------------------------------------- the request comes in
    def take(self, data: bytes, *, is_ended: bool) -> None:
        """A piece of the body."""
        self._size += len(data)
        limits = self._link.listener.rules.limits
        if not self._request.is_grpc and self._size > limits.body:
            self._refuse(f"request body over {limits.body} bytes")
        elif self._meter is not None and self._meter.is_over(data):
            self._refuse(f"a message over {limits.message} bytes")
        elif self._stream is not None:
            self._stream.feed(data)
            self._credit(len(data))
            if is_ended:
                self._stream.end()
        elif not self.is_started:
            self._chunks.append(data)
            if is_ended:
                self.start(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))

    def end(self, trailers: Headers) -> None:
        """The body ended with trailers, which only a stream can carry."""
        if not self.is_started:
            self._start_streaming()
        if self._stream is not None:
            self._stream.end(self._link.listener.rules.trailers_of(self._link.hop, trailers))

    def wait_for_more(self) -> None:
        """The read that brought the head brought no end."""
        request = self._request
        is_small = request.content_length is not None and request.content_length <= _SMALL_BODY
        if isinstance(self._verdict, ProxyError) or request.expects_continue or not is_small:
            self._start_streaming()

    def start(self, body: Body) -> None:
        """Give the call its task."""
        self._stream = None if isinstance(body, bytes) else body
        self._chunks = []
        if isinstance(self._verdict, ProxyError):
            self._task = self._link.spawn(self._refuse_head(self._verdict))
        else:
            self._task = self._link.spawn(self.serve(self._call(self._verdict, body)))

    def break_off(self) -> asyncio.Task[None] | None:
        """The client has left.

        Nobody wants the answer, nobody sends the rest. Returns the task, cancelled.
        """
        if self._stream is not None:
            self._stream.fail(ClientGone())
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _start_streaming(self) -> None:
        stream = Stream(self, self._request.content_length, high=_HIGH_WATER)
        stream.account(self._link.listener.ledger)
        chunks = self._chunks
        self.start(stream)
        for chunk in chunks:
            stream.feed(chunk)
        self._credit(self._size)

    def _refuse(self, why: str) -> None:
        """More than is allowed: whoever reads the body gets the error."""
        if self._stream is None:
            self._start_streaming()
        if self._stream is not None:
            self._is_paused = True
            self._stream.fail(BodyTooLarge(why))

    # ------------------------------------------------------------- Flow of the request body
    def pause(self) -> None:
        """The reader is slow: grant the client no more."""
        self._is_paused = True

    def resume(self) -> None:
        """The reader has caught up."""
        self._is_paused = False
        self._credit(0)

    def abandon(self) -> None:
        """Nobody reads any more: grant nothing; the answer's end refuses the rest."""
        self._is_paused = True

    def _credit(self, count: int) -> None:
        self._uncredited += count
        if not self._is_paused:
            link = self._link
            link.session.credit(self.stream_id, self._uncredited)
            self._uncredited = 0
            if link.session.wants_to_send:
                link.wake()

    # ------------------------------------------------------------- the answer goes out
    async def serve(self, call: Call) -> None:
        """The call's one task: from the pipeline to the last byte written."""
        link = self._link
        held = len(call.body) if isinstance(call.body, bytes) else 0
        link.listener.ledger.used += held
        try:
            try:
                reply = await link.listener.pipeline.serve(call)
            except ProxyError as error:
                reply = _failed_reply(error, call)
            except Exception:
                log.exception("a call failed inside the proxy")
                reply = _own_reply(ProxyError("internal error of the proxy"), call)
            if not isinstance(reply.body, bytes):
                await self._send_stream(call, reply, reply.body)
            elif self._send_whole(call, reply, reply.body):
                await link.room(self.stream_id)
        except StreamReset as error:
            link.session.reset(self.stream_id, error.code)
        finally:
            link.listener.ledger.used -= held
            self._close()

    async def _refuse_head(self, error: ProxyError) -> None:
        """The task of a call that the pipeline never sees."""
        request, link = self._request, self._link
        call = Call(request.method, request.target, request.headers)
        call.http_version, call.peer, call.is_grpc = 20, link.hop.peer, request.is_grpc
        try:
            link.listener.pipeline.refuse(call, error)
            reply = _own_reply(error, call)
            if isinstance(reply.body, bytes) and self._send_whole(call, reply, reply.body):
                await link.room(self.stream_id)
        finally:
            self._close()

    def _close(self) -> None:
        link = self._link
        if self._stream is not None:
            self._stream.abandon()
            link.session.finish(self.stream_id)
        link.wake()
        link.forget(self.stream_id)

    def _call(self, head: Head, body: Body) -> Call:
        request, link = self._request, self._link
        arrival = Arrival(head, body, link.listener.new_ids)
        self._request_id = arrival.request_id
        call = arrival.call
        call.scheme = link.hop.scheme
        call.peer = link.hop.peer
        call.is_grpc = request.is_grpc
        if request.timeout_s is not None:
            call.deadline = Deadline(link.now() + request.timeout_s)
        if not request.is_grpc:
            call.on_informational = self._interim
        return call

    def _send_whole(self, call: Call, reply: Reply, body: bytes) -> bool:
        """Write the answer; True when part of it waits for the client."""
        link = self._link
        headers = reply.headers
        if not call.is_grpc:
            headers = self._plain_fields(call, reply, len(body))
            if not body_allowed(call.method, reply.status):
                body = b""
        trailers = link.writer.trailers(reply.trailers) if reply.trailers else None
        link.session.send_message(self.stream_id, link.writer.response(reply.status, headers), body, trailers)
        link.wake()
        return link.session.queued(self.stream_id) > 0

    async def _send_stream(self, call: Call, reply: Reply, body: Stream) -> None:
        link, stream_id = self._link, self.stream_id
        body.account(link.listener.ledger)
        has_body = body_allowed(call.method, reply.status)
        headers = reply.headers if call.is_grpc else self._plain_fields(call, reply, body.length)
        try:
            link.session.send_headers(
                stream_id, link.writer.response(reply.status, headers), end=not has_body
            )
            link.wake()
            if has_body:
                await link.send_body(stream_id, body)
        except ProxyError as error:
            self._break_answer(error, call)
        finally:
            body.abandon()
            link.session.finish(stream_id)

    def _break_answer(self, error: ProxyError, call: Call) -> None:
        """The answer broke off after its head: a gRPC client can still be told why."""
        link = self._link
        if isinstance(error, StreamReset):
            link.session.reset(self.stream_id, error.code)
        elif call.is_grpc:
            status = status_headers(error.grpc_code, str(error), error.retry_after_s)[1:]
            link.session.send_trailers(self.stream_id, link.writer.trailers(status))
        else:
            link.session.reset(self.stream_id, ErrorCode.INTERNAL_ERROR)

    def _plain_fields(self, call: Call, reply: Reply, length: int | None) -> Headers:
        """The answer's fields, with what this hop adds and the length of the body where it may be said."""
        listener, headers = self._link.listener, reply.headers
        if not body_allowed(call.method, reply.status):
            length = reply.declared_length
        added = [] if field(headers, b"date") is not None else [(b"date", listener.date)]
        if listener.rules.via:
            added.append((b"via", b"1.1 " + listener.rules.via))
        if self._request_id and field(headers, b"x-request-id") is None:
            added.append((b"x-request-id", self._request_id))
        if not isinstance(self._verdict, ProxyError) and self._verdict.wants_debug:
            added += [_field_of(line) for line in timing_fields(call).splitlines()]
        if length is not None:
            added.append((b"content-length", b"%d" % length))
        return headers + tuple(added)

    def _interim(self, status: int, headers: Headers) -> None:
        link = self._link
        link.session.send_headers(self.stream_id, link.writer.response(status, headers))
        link.wake()


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value


def _failed_reply(error: ProxyError, call: Call) -> Reply:
    if isinstance(error, StreamReset) and call.is_grpc:
        raise error  # the client's own library knows what the code means
    return _own_reply(error, call)


def _own_reply(error: ProxyError, call: Call) -> Reply:
    """An answer of Pillion's own: a gRPC status in a trailers-only answer, or the route's HTTP dialect."""
    if not call.is_grpc:
        return error_reply(error, call.dialect)
    headers = status_headers(error.grpc_code, str(error), error.retry_after_s)
    return Reply(200, headers, source="proxy")
