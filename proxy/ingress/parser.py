"""Bytes from a client in, requests out: a sans-I/O HTTP/1.x request parser on llhttp.

Theory of operation
-------------------
llhttp (through httptools, in its strict mode) decides where a message begins and ends; `head.read_head`
refuses what it accepts and a proxy must not. `feed` takes what one read returned and gives back the requests
that begin in it.

A request whose body ended within the read that completed its head carries the body as ``bytes``: that is
the one-buffer path of small inference calls, and it costs no stream, no future and no copy. Any other body
becomes a `Stream` that later reads fill.

Framing is regenerated from the body by whoever sends the message on, which is why a request with two
meanings dies here. After an error the parser is spent: nothing that follows a malformed message is looked at.

Why not aiohttp's own parser: it builds a case-insensitive multidict and a URL object that a relay never
reads (8.8 µs against 2.5 µs for a small request), drops trailers, and reports every fault as 400.

Keep-alive clients mostly repeat their head to the byte. When a read begins with the last plain request's
head, llhttp (which stands between two messages, and would arrive at the same place) need not see it: 1 µs
instead of 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from proxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge, ProxyError, Reset
from proxy.exchange import Call, Stream
from proxy.ingress.head import Head, read_head

if TYPE_CHECKING:
    from proxy.exchange import Body, Flow
    from proxy.ingress.policy import LimitPolicy

__all__ = ("Arrival", "RequestParser")

_FAULTS: dict[type[httptools.HttpParserError], str] = {
    httptools.HttpParserInvalidMethodError: "unknown method",
    httptools.HttpParserInvalidURLError: "invalid request target",
}
# A longer head is not worth remembering for each idle connection.
_MAX_REMEMBERED = 2048


class Arrival:
    """One request as it came off the wire.

    `keep_alive` says whether the client would send another; `expects_continue` that it waits for an interim
    100 before its body.
    """

    __slots__ = ("call", "expects_continue", "keep_alive")

    def __init__(self, head: Head, body: Body) -> None:
        self.call = Call(head.method, head.target, head.headers, body)
        self.call.http_version = head.http_version
        self.keep_alive = head.keep_alive
        self.expects_continue = head.expects_continue


class RequestParser:
    """Parses the requests of one client connection; `flow` pauses and resumes its socket."""

    __slots__ = (
        "_arrivals",
        "_begun",
        "_body",
        "_body_bytes",
        "_fields",
        "_flow",
        "_head",
        "_head_bytes",
        "_known_bytes",
        "_known_head",
        "_limits",
        "_parser",
        "_resuming",
        "_stream",
        "_target",
        "fault",
    )

    def __init__(self, limits: LimitPolicy, flow: Flow) -> None:
        self._limits = limits
        self._flow = flow
        self._parser = httptools.HttpRequestParser(self)
        self._arrivals: list[Arrival] = []
        self.fault: ProxyError | None = None
        self._known_bytes = b""
        self._known_head: Head | None = None
        self._begun = False  # a message has begun and is not complete
        self._resuming = False  # llhttp is being told what it already knew
        self._head: Head | None = None  # of the message in progress, once it is whole
        self._stream: Stream | None = None  # its body, where that outlives the first read
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # ------------------------------------------------------------- the caller's side
    @property
    def is_idle(self) -> bool:
        """True between messages: nothing of a next request has arrived."""
        return not self._begun

    def feed(self, data: bytes) -> list[Arrival]:
        """The requests that begin in `data`, in order, up to the first one that breaks the rules.

        `fault` then says how; requests before it are good and to be answered first.
        """
        if self.fault is not None:
            return []
        if self._begun:
            if self._head is None:
                self._head_bytes += len(data)  # llhttp keeps an unfinished field to itself: bound it
            self._run(data)
            return self._collect()
        known = self._known_head
        if known is not None and data.startswith(self._known_bytes):
            body = data[len(self._known_bytes) :]
            if len(body) == known.length:
                return [Arrival(known, body)]
        self._run(data)
        arrivals = self._collect()
        if len(arrivals) == 1 and not self._begun and self.fault is None:
            self._remember(data, arrivals[0])
        return arrivals

    def eof(self) -> None:
        """The client will send no more; a body that is not whole breaks off."""
        if self._stream is not None:
            self._stream.fail(Reset("the client closed before its request was whole"))
            self._stream = None

    # ------------------------------------------------------------- internals
    def _run(self, data: bytes) -> None:
        while self.fault is None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # An Upgrade that nobody takes up is an ordinary request (RFC 9110 §7.8): read on.
                data = data[upgrade.args[0] :]
                self._restart()
                continue
            except httptools.HttpParserError as fault:
                if self.fault is None:
                    self.fault = BadRequest(f"malformed request: {_FAULTS.get(type(fault), 'not HTTP/1.1')}")
                return
            if self._head_bytes > self._limits.header_bytes and self._head is None:
                self.fault = HeadersTooLarge(f"request head over {self._limits.header_bytes} bytes")
            return

    def _restart(self) -> None:
        """Go on with a fresh llhttp: the old one skips the body of a request that asked to upgrade."""
        self._parser = httptools.HttpRequestParser(self)
        if self._head is not None:
            length = b"Content-Length: %d" % (self._head.length or 0)
            framing = b"Transfer-Encoding: chunked" if self._head.is_chunked else length
            self._resuming = True
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._resuming = False

    def _collect(self) -> list[Arrival]:
        """What this read brought; a request whose body goes on gets a `Stream` to receive the rest."""
        arrivals, self._arrivals = self._arrivals, []
        if self.fault is not None:
            if self._stream is not None:
                self._stream.fail(self.fault)
        elif self._head is not None and self._stream is None:
            stream = self._stream = Stream(self._flow, self._head.length)
            for chunk in self._body:
                stream.feed(chunk)
            arrivals.append(Arrival(self._head, stream))
        return arrivals

    def _remember(self, data: bytes, arrival: Arrival) -> None:
        body = arrival.call.body
        if not arrival.keep_alive or arrival.expects_continue or not isinstance(body, bytes):
            return
        size = len(data) - len(body)
        if size > _MAX_REMEMBERED or not data.endswith(b"\r\n\r\n" + body):
            return  # chunked, or trailing bytes: the head does not say where the body ends
        self._known_bytes = data[:size]
        self._known_head = Head(arrival.call.method, arrival.call.target, arrival.call.headers)
        self._known_head.http_version = arrival.call.http_version
        self._known_head.length = len(body)

    def _refuse(self, error: ProxyError) -> None:
        self.fault = error
        raise error  # leaves llhttp

    # ------------------------------------------------------------- llhttp's callbacks
    def on_message_begin(self) -> None:
        """A request line starts."""
        if not self._resuming:
            self._begun = True
            self._head = None
            self._target = b""
            self._fields = []
            self._head_bytes = 0
            self._body = []
            self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if not self._resuming:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field, or one trailer field once the body has begun."""
        if not self._resuming:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: judge it."""
        if self._resuming:
            return
        parser = self._parser
        try:
            head = read_head(
                parser.get_method(), self._target, parser.get_http_version(), self._fields, self._limits
            )
        except ProxyError as error:
            self._refuse(error)
        else:
            head.keep_alive = parser.should_keep_alive()
            self._head = head
            self._fields = []

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body:
            self._refuse(BodyTooLarge(f"request body over {self._limits.body} bytes"))
        if self._stream is not None:
            self._stream.feed(data)
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        head = self._head
        if head is None or (self._parser.should_upgrade() and (head.length or head.is_chunked)):
            return  # only llhttp thinks so: `_restart` reads the body
        self._begun = False
        self._head = None
        if self._stream is not None:
            self._stream.end(tuple(self._fields))
            self._stream = None
            return
        body = self._body
        self._arrivals.append(Arrival(head, body[0] if len(body) == 1 else b"".join(body)))
