"""Writes the answer to one call on an HTTP/2 connection.

Used by the call's task, or by the turn of the loop that brought the answer. A plain answer gets `Date`, `Via`
and the request's id; a gRPC answer goes out as it came, since its fields are its caller's metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import ProxyError, StreamReset
from proxy.exchange import field
from proxy.http2.errors import ErrorCode
from proxy.http2.grpc import status_headers
from proxy.ingress.headers import body_allowed, timing_fields

if TYPE_CHECKING:
    from proxy.exchange import Call, Headers, Reply, Stream
    from proxy.ingress.head import Head
    from proxy.ingress.http2_call import CallLink

__all__ = ("AnswerWriter", "send_grpc")


def send_grpc(link: CallLink, stream_id: int, reply: Reply, body: bytes) -> bool:
    """Write a whole gRPC answer; True when part of it waits for the client."""
    session, writer = link.session, link.writer
    trailers = writer.trailers(reply.trailers) if reply.trailers else None
    return session.send_message(stream_id, writer.response(reply.status, reply.headers), body, trailers)


class AnswerWriter:
    """See the module's text. `verdict` is the request's judged head, or why it was refused."""

    __slots__ = ("_call", "_link", "_stream_id", "_verdict")

    def __init__(self, link: CallLink, stream_id: int, call: Call, verdict: Head | ProxyError) -> None:
        self._link = link
        self._stream_id = stream_id
        self._call = call
        self._verdict = verdict

    def send_whole(self, reply: Reply, body: bytes) -> bool:
        """Write a whole answer; True when part of it waits for the client."""
        link, call = self._link, self._call
        if not call.is_grpc:
            reply.headers = self._plain_fields(reply, len(body))
            if not body_allowed(call.method, reply.status):
                body = b""
        return send_grpc(link, self._stream_id, reply, body)

    async def send_stream(self, reply: Reply, body: Stream) -> None:
        """Write an answer whose body is still arriving."""
        link, call, stream_id = self._link, self._call, self._stream_id
        body.account(link.listener.ledger)
        has_body = body_allowed(call.method, reply.status)
        headers = reply.headers if call.is_grpc else self._plain_fields(reply, body.length)
        try:
            link.session.send_headers(
                stream_id, link.writer.response(reply.status, headers), end=not has_body
            )
            link.wake()
            if has_body:
                await link.send_body(stream_id, body)
        except ProxyError as error:
            self._break_answer(error)
        finally:
            body.abandon()
            link.session.finish(stream_id)

    def send_interim(self, status: int, headers: Headers) -> None:
        """Write an interim answer."""
        link = self._link
        link.session.send_headers(self._stream_id, link.writer.response(status, headers))
        link.wake()

    def _break_answer(self, error: ProxyError) -> None:
        """The answer broke off after its head: a gRPC client can still be told why."""
        link = self._link
        if isinstance(error, StreamReset):
            link.session.reset(self._stream_id, error.code)
        elif self._call.is_grpc:
            status = status_headers(error.grpc_code, str(error), error.retry_after_s)[1:]
            link.session.send_trailers(self._stream_id, link.writer.trailers(status))
        else:
            link.session.reset(self._stream_id, ErrorCode.INTERNAL_ERROR)

    def _plain_fields(self, reply: Reply, length: int | None) -> Headers:
        """The answer's fields, with what this hop adds and the length of the body where it may be said."""
        listener, call, headers = self._link.listener, self._call, reply.headers + reply.added
        if not body_allowed(call.method, reply.status):
            length = reply.declared_length
        added = [] if field(headers, b"date") is not None else [(b"date", listener.date)]
        if listener.rules.via:
            added.append((b"via", b"1.1 " + listener.rules.via))
        if not isinstance(self._verdict, ProxyError):
            request_id = call.header(b"x-request-id")
            if request_id and field(headers, b"x-request-id") is None:
                added.append((b"x-request-id", request_id))
            if self._verdict.wants_debug:
                added += [_field_of(line) for line in timing_fields(call).splitlines()]
        if length is not None:
            added.append((b"content-length", b"%d" % length))
        return headers + tuple(added)


def _field_of(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value
