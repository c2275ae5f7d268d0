"""One call on an HTTP/2 connection: serves a request, writes its answer.

The connection owns it. A request that came whole in one read needs nothing but an answer, and where the
pipeline can send it on at once it has no task at all: the backend's answer is written in the turn of the loop
in which it was read. Whatever has to wait (for a channel, a batch, a cache, a retry, a body, a slow reader)
runs as the call's one task, owned by the connection. `Upload` is the call whose body is still arriving.

A call ends with its answer written, or by `break_off`. What the client still sends by then is refused with
RST_STREAM (NO_ERROR), as RFC 9113 §8.1 has it.

What a listener asks of HTTP/1.1 requests holds here too: the same rules judge the head, the same identifiers
are given.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy.errors import ClientGone, ProxyError, StreamReset
from proxy.exchange import Call, Reply, Stream
from proxy.http2.errors import ErrorCode
from proxy.http2.grpc import status_headers
from proxy.ingress.forwarding import read_request_id, read_trace, trace_of
from proxy.ingress.http2_answer import AnswerWriter, send_grpc
from proxy.ingress.replies import error_reply
from proxy.timing import Deadline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from proxy.exchange import Begun, Body, Headers, Ledger, Rest, Taker
    from proxy.http2.blocks import BlockWriter
    from proxy.http2.events import RequestReceived
    from proxy.http2.headers import RequestHead
    from proxy.http2.session import ServerSession
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.head import Head
    from proxy.ingress.rules import HeadRules

__all__ = ("CallLink", "CallListener", "ClientCall", "Service")

log = logging.getLogger(__name__)


class Service(Protocol):
    """What a call needs of the pipeline."""

    async def serve(self, call: Call) -> Reply:
        """Answer `call`; raises `ProxyError` for what Pillion answers itself."""

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send `call` on without a task; None when it has to be served with one."""

    def refuse(self, call: Call, error: ProxyError) -> None:
        """Account for a call that was answered with `error` before it could be served."""


class CallListener(Protocol):
    """What a call needs of its listener; `new_ids` makes a trace id and a span id, `newest` is the call
    with a task that was read last."""

    pipeline: Service
    rules: HeadRules
    ledger: Ledger
    newest: Call
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

    def judge(self, request: RequestHead) -> Head | ProxyError:
        """What the rules make of a head."""

    def wake(self) -> None:
        """Something was sent on the session."""

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a call's work as a task of the connection."""

    def forget(self, stream_id: int) -> None:
        """The call is over, and what there was to send on the session was sent."""

    async def room(self, stream_id: int) -> bool:
        """Wait until the client has taken what was sent."""

    async def send_body(self, stream_id: int, body: Stream) -> bool:
        """Relay a body to its end."""


class ClientCall:
    """See the module's text; implements `Taker`."""

    __slots__ = ("_begun", "_call", "_held", "_link", "_request", "_stream", "_task", "_verdict", "stream_id")

    def __init__(self, link: CallLink, request: RequestReceived) -> None:
        self.stream_id = request.stream_id
        self._link = link
        self._request = request
        self._verdict = link.judge(request.head)
        self._call: Call | None = None
        self._held = 0
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun: Begun | None = None

    @property
    def is_started(self) -> bool:
        """Whether the call is on its way."""
        return self._call is not None

    def start(self, body: Body) -> None:
        """Send the call on its way: at once, or with a task of its own."""
        verdict, link = self._verdict, self._link
        if isinstance(body, Stream):
            self._stream = body
        if isinstance(verdict, ProxyError):
            self._refuse_head(verdict)
            return
        self._call = call = self._make_call(verdict, body)
        pipeline = link.listener.pipeline
        if not isinstance(body, Stream):
            self._hold(len(body))
            try:
                self._begun = pipeline.begin(call, self)
            except ProxyError as error:
                self.fail(error)
                return
            if self._begun is not None:
                return
        listener = link.listener
        listener.newest.is_newest, listener.newest = False, call
        call.is_newest = True
        self._task = link.spawn(self._serve(call, partial(pipeline.serve, call)))

    def break_off(self) -> asyncio.Task[None] | None:
        """The client has left: nobody wants the answer, nobody sends the rest.

        Returns the task, cancelled, when there is one; else the call is over now.
        """
        if self._stream is not None:
            self._stream.fail(ClientGone())
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.cancel()
        if self._task is not None:
            self._task.cancel()
        else:
            self.close()
        return self._task

    # ------------------------------------------------------------- Taker
    def take(self, reply: Reply) -> None:
        """The answer to a call without a task; one that is still arriving needs one from here on."""
        self._begun = None
        call, body = self._call, reply.body
        if call is None:
            return
        if isinstance(body, Stream):
            self._task = self._link.spawn(self._serve(call, partial(_ready, reply)))
            return
        link = self._link
        try:
            is_waiting = (
                send_grpc(link, self.stream_id, reply, body)
                if call.is_grpc
                else AnswerWriter(link, self.stream_id, call, self._verdict).send_whole(reply, body)
            )
        except Exception:
            # The backend's channel is what calls this: it and its other calls must not suffer.
            log.exception("an answer could not be sent")
            link.session.reset(self.stream_id, ErrorCode.INTERNAL_ERROR)
            is_waiting = False
        if is_waiting:
            self._hold(len(body))
            self._task = link.spawn(self._see_off())
        else:
            self.close()

    def fail(self, error: ProxyError) -> None:
        """There is none."""
        if isinstance(error, StreamReset):
            self._begun = None
            self._link.session.reset(self.stream_id, error.code)
            self.close()
        elif self._call is not None:
            self.take(_own_reply(error, self._call))

    def go_on(self, rest: Rest) -> None:
        """There will be one."""
        if self._call is not None:
            self._task = self._link.spawn(self._serve(self._call, rest))

    # ------------------------------------------------------------- the task, where there is one
    async def _serve(self, call: Call, answer: Rest) -> None:
        """From the pipeline to the last byte written."""
        self._begun = None
        link, writer = self._link, AnswerWriter(self._link, self.stream_id, call, self._verdict)
        try:
            try:
                reply = await answer()
            except StreamReset as reset:
                if call.is_grpc:
                    raise  # the client's own library knows what the code means
                reply = _own_reply(reset, call)
            except ProxyError as error:
                reply = _own_reply(error, call)
            except Exception:
                log.exception("a call failed inside the proxy")
                reply = _own_reply(ProxyError("internal error of the proxy"), call)
            if not isinstance(reply.body, bytes):
                await writer.send_stream(reply, reply.body)
            elif writer.send_whole(reply, reply.body):
                self._hold(len(reply.body))
                await link.room(self.stream_id)
        except StreamReset as reset:
            link.session.reset(self.stream_id, reset.code)
        finally:
            self.close()

    def _hold(self, size: int) -> None:
        """So many bytes more stay in memory until the call is over."""
        self._held += size
        self._link.listener.ledger.used += size

    async def _see_off(self) -> None:
        """The answer waits for a slow client."""
        try:
            await self._link.room(self.stream_id)
        finally:
            self.close()

    def _refuse_head(self, error: ProxyError) -> None:
        """Answer a call that the pipeline never sees."""
        head, link = self._request.head, self._link
        self._call = call = Call(head.method, head.target, head.headers)
        call.http_version, call.peer, call.is_grpc = 20, link.hop.peer, head.is_grpc
        call.certificate = link.hop.certificate
        link.listener.pipeline.refuse(call, error)
        self.fail(error)

    def close(self) -> None:
        """The call is over; to be called again for a task that was cancelled before its first step."""
        link = self._link
        link.listener.ledger.used -= self._held
        self._held = 0
        if self._stream is not None:
            self._stream.abandon()
            link.session.finish(self.stream_id)
        link.forget(self.stream_id)

    def _make_call(self, head: Head, body: Body) -> Call:
        request, link = self._request, self._link
        call = Call(head.method, head.target, head.headers, body)
        call.own = self._own_fields(head)
        call.head = head
        call.http_version = 20
        call.identity = head.identity
        call.certificate = link.hop.certificate
        call.timeout_wish = head.timeout_wish
        call.scheme = link.hop.scheme
        call.peer = head.client or link.hop.peer
        call.is_grpc = is_grpc = request.head.is_grpc
        if request.timeout_s is not None:
            call.deadline = Deadline(link.now() + request.timeout_s)
        if not is_grpc:
            call.on_informational = AnswerWriter(link, self.stream_id, call, head).send_interim
            if head.expects_continue and not isinstance(body, bytes):
                call.own += ((b"Expect", b"100-continue"),)
        return call

    def _own_fields(self, head: Head) -> Headers:
        """The request's id and its place in its trace, the client's where it gave them."""
        trace_id, span_id = self._link.listener.new_ids()
        own = self._request.own
        if not own and head.trace is None and not head.request_id:
            return ((b"X-Request-Id", trace_id), (b"traceparent", b"00-%b-%b-00" % (trace_id, span_id)))
        if len(own) == 1 and own[0][0] == b"traceparent" and not head.request_id:
            trace = trace_of(own[0][1])
            if trace is not None:
                return ((b"X-Request-Id", trace_id), (b"traceparent", trace[0] + span_id + trace[1]))
        given = dict(own)
        request_id, trace = head.request_id, head.trace
        fields: list[tuple[bytes, bytes]] = []
        if b"x-request-id" in given:
            request_id = read_request_id([given[b"x-request-id"]])
        if b"traceparent" in given:
            trace = read_trace([given[b"traceparent"]])
        if trace is not None and b"tracestate" in given:
            fields.append((b"tracestate", given[b"tracestate"]))
        if not head.request_id:
            fields.append((b"X-Request-Id", request_id or trace_id))
        before, after = trace or (b"00-" + trace_id + b"-", b"-00")
        return (*fields, (b"traceparent", before + span_id + after))


async def _ready(reply: Reply) -> Reply:
    return reply


def _own_reply(error: ProxyError, call: Call) -> Reply:
    """An answer of Pillion's own: a gRPC status in a trailers-only answer, or the route's HTTP dialect."""
    if not call.is_grpc:
        return error_reply(error, call.dialect)
    return Reply(200, status_headers(error.grpc_code, str(error), error.retry_after_s), source="proxy")
