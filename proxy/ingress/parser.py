"""Bytes from a client in, requests out: a sans-I/O HTTP/1.x reader for one connection.

Theory of operation
-------------------
`feed` takes what one read returned and gives back the requests that begin in it. A head is collected until
its empty line and judged as a whole; its body is counted off or taken out of its chunks. After a fault the
reader is spent: nothing that follows a malformed message is looked at.

A request whose body ended within the read that completed its head carries the body as ``bytes``: that is
the one-buffer path of small inference calls, and it costs no stream, no future and no copy. Any other body
becomes a `Stream` that later reads fill. Framing is regenerated from the body by whoever sends the message
on, so that the backend and this proxy cannot disagree about where it ends.

Keep-alive clients mostly repeat their head; `proxy.ingress.repeats` finds such a request without reading it.

Of a read that brings many requests only the first few become such: an object is many times as large as the
twenty bytes that ask for it. The rest waits as it came (`has_more`) until the next `feed`. What waits, this
and the beginning of a head, is counted as memory like bodies are.

After a request to upgrade, what the client sends is not read as HTTP until the upgrade is declined
(`decline_upgrade`): it belongs to the other protocol.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from proxy.errors import BadRequest, BuffersFull, ProxyError
from proxy.exchange import Call, Stream
from proxy.ingress.chunks import ChunkDecoder
from proxy.ingress.grammar import check_beginning, read_request_line
from proxy.ingress.head import Head, read_head
from proxy.ingress.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Body, Flow, Headers, Ledger
    from proxy.ingress.forwarding import Hop
    from proxy.ingress.rules import HeadRules
    from proxy.ingress.variation import Pattern

__all__ = ("Arrival", "RequestParser")

# Requests that one call of `feed` gives back.
_MOST_AT_ONCE: Final = 8


class Arrival:
    """One request as it came off the wire: the `head` as it was judged, and the `call` made of it.

    What differs from that head is in `said`: its target, fields, id and trace. `hop` knows who sent it.
    `request_id` is the client's name for it, or the one that it was given here.
    """

    __slots__ = ("call", "head", "request_id")

    def __init__(
        self,
        head: Head,
        body: Body,
        new_ids: Callable[[], tuple[bytes, bytes]],
        hop: Hop,
        said: Head | Pattern | None = None,
    ) -> None:
        said = said or head
        trace_id, span_id = new_ids()
        self.head = head
        self.request_id = said.request_id or trace_id
        before, after = said.trace or (b"00-" + trace_id + b"-", b"-00")
        parent = (b"traceparent", before + span_id + after)
        added: Headers = (parent,) if said.request_id else ((b"X-Request-Id", trace_id), parent)
        if head.expects_continue and not isinstance(body, bytes):
            added += ((b"Expect", b"100-continue"),)
        self.call = call = Call(head.method, said.target, said.headers + added, body)
        call.http_version = head.http_version
        call.upgrade = head.upgrade
        call.identity = head.identity
        call.timeout_wish = head.timeout_wish
        call.peer = head.client or hop.peer
        call.scheme = hop.scheme
        call.certificate = hop.certificate


class RequestParser:
    """Reads the requests of one client connection; `flow` pauses and resumes its socket.

    `new_ids` makes a trace id (32 hexadecimal digits) and a span id (16); body bytes are counted in `ledger`.
    `received` counts the bytes of the body in hand. `refused` are method and target of the request that
    `fault` is about, as far as they could be read.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_flow",
        "_has_skipped",
        "_head",
        "_hop",
        "_is_at_end",
        "_ledger",
        "_left",
        "_looked_at",
        "_new_ids",
        "_pending",
        "_repeats",
        "_rules",
        "_seen",
        "_stream",
        "_trailers",
        "fault",
        "received",
        "refused",
    )

    def __init__(
        self,
        rules: HeadRules,
        hop: Hop,
        flow: Flow,
        *,
        ledger: Ledger,
        new_ids: Callable[[], tuple[bytes, bytes]],
    ) -> None:
        self._rules = rules
        self._hop = hop
        self._flow = flow
        self._ledger = ledger
        self._new_ids = new_ids
        self.fault: ProxyError | None = None
        self.refused = (b"", b"")
        self._pending = b""  # a head that is not whole, or what follows the requests given back last
        self._looked_at = 0  # bytes of that
        self._seen = 0  # bytes of the read in hand that were looked at before
        self._is_at_end = False  # the client has sent all, and some of it waits
        self._has_skipped = False  # an empty line before the request line
        self._head: Head | None = None  # of the message in hand, once it is whole
        self._chunks: ChunkDecoder | None = None
        self._body: list[bytes] = []  # of the message in hand, while it has no stream
        self._stream: Stream | None = None
        self._left = 0  # bytes of a counted body to come
        self._trailers: Headers = ()
        self._repeats = Repeats(rules)
        self.received = 0

    @property
    def is_idle(self) -> bool:
        """True between messages: nothing of a next request has arrived."""
        return self._head is None and not self._pending

    @property
    def is_in_head(self) -> bool:
        """True when the beginning of a request's head has arrived and its end has not."""
        return self._head is None and self._looked_at > 0

    @property
    def has_more(self) -> bool:
        """True when bytes wait that nobody has looked at; `feed`, if need be with nothing, does."""
        return self._looked_at < len(self._pending)

    def feed(self, data: bytes) -> list[Arrival]:
        """The requests that begin in `data`, or waited before it, in order: some of them, see `has_more`, and
        none from the first one on that breaks the rules.

        `fault` then says how; requests before it are good and to be answered first.
        """
        if self._head is None and not self._pending and self.fault is None:
            repeats = self._repeats
            end = repeats.find(data)
            if end:
                arrival = Arrival(repeats.found, data[end:], self._new_ids, self._hop, repeats.said)
                if repeats.said is repeats.found:
                    arrival.call.head = repeats.found
                return [arrival]
        arrivals: list[Arrival] = []
        if self.fault is None:
            try:
                self._run(data, arrivals)
            except ProxyError as fault:
                self.break_off(fault)
        return arrivals

    def renew(self, rules: HeadRules, hop: Hop) -> None:
        """Judge the next head by other rules; what is remembered was judged by the old ones."""
        self._rules, self._hop = rules, hop
        self._repeats = Repeats(rules)

    def eof(self) -> None:
        """The client will send no more: the end of what it sends over an upgraded connection, otherwise of a
        request only when that is whole."""
        if self._head is not None and self._head.upgrade:
            self._end_stream()
        elif self.has_more:
            self._is_at_end = True
        elif not self.is_idle:
            self.break_off(BadRequest("the client closed before its request was whole"))

    def break_off(self, error: ProxyError) -> None:
        """Read nothing more; the request in hand ends with `error`."""
        self.fault = self.fault or error
        self._keep(b"", 0)
        if self._stream is not None:
            self._stream.fail(error)
            self._stream = None

    def decline_upgrade(self) -> list[Arrival]:
        """The upgrade did not come about: what the client has sent meanwhile is HTTP after all."""
        stream = self._stream
        if self._head is None or stream is None:
            return []
        data = stream.read_nowait()
        self._end_stream()
        return self.feed(data) if data else []

    # ------------------------------------------------------------- internals
    def _run(self, data: bytes, arrivals: list[Arrival]) -> None:
        self._seen = self._looked_at
        if self._pending:
            data = self._pending + data
            self._keep(b"", 0)
        pos, size = 0, len(data)
        while pos < size:
            head = self._head
            if head is None and len(arrivals) >= _MOST_AT_ONCE:
                self._keep(data[pos:], 0)
                return
            if head is None:
                pos = self._read_head(data, pos)
            elif head.upgrade:
                self._take(data[pos:])
                pos = size
            elif self._chunks is not None:
                pos = self._read_chunks(self._chunks, data, pos)
            else:
                pos = self._read_counted(data, pos)
            self._conclude(arrivals)
        if self._head is not None and self._stream is None:
            self._open_stream(self._head, arrivals)
        if self._is_at_end:
            self.eof()

    def _keep(self, pending: bytes, looked_at: int) -> None:
        self._ledger.used += len(pending) - len(self._pending)
        self._pending, self._looked_at = pending, looked_at

    def _read_head(self, data: bytes, pos: int) -> int:
        """Judge the head at `pos`; where its body begins, or the end of `data` when it is not whole."""
        if not self._has_skipped and data.startswith(
            b"\r\n", pos
        ):  # RFC 9112 §2.2: one empty line before a request
            self._has_skipped = True
            return pos + 2
        end = data.find(b"\r\n\r\n", max(pos, self._seen - 3)) + 4
        if end < 4:
            self._keep(data[pos:], len(data) - pos)
            if self._pending != b"\r":
                check_beginning(self._pending, self._rules.limits, self._seen if pos == 0 else 0)
            if self._ledger.is_full:
                raise BuffersFull(retry_after_s=1.0)
            return len(data)
        if end - pos > self._rules.limits.header_bytes:
            check_beginning(data[pos:end], self._rules.limits)
        self._has_skipped = False
        try:
            self._head = head = read_head(data[pos : end - 2], self._hop, self._rules)
        except ProxyError:
            with suppress(ProxyError):
                self.refused = read_request_line(data[pos : data.find(b"\r\n", pos)], self._rules.limits)[:2]
            raise
        self._chunks = ChunkDecoder(self._rules.limits) if head.is_chunked else None
        self._left = head.length or 0
        self.received = 0
        if pos == 0 and end + self._left == len(data):
            self._repeats.remember(head, data[:end])
        return end

    def _read_counted(self, data: bytes, pos: int) -> int:
        piece = data[pos : pos + self._left]
        self._left -= len(piece)
        self._take(piece)
        return pos + len(piece)

    def _read_chunks(self, chunks: ChunkDecoder, data: bytes, pos: int) -> int:
        pieces: list[bytes] = []
        end = chunks.feed(data, pos, pieces)
        for piece in pieces:
            self._take(piece)
        if end < 0:
            return len(data)
        self._chunks = None
        self._trailers = self._rules.trailers_of(self._hop, chunks.trailers)
        return end

    def _take(self, piece: bytes) -> None:
        self.received += len(piece)
        if self._stream is not None:
            self._stream.feed(piece)
        else:
            self._body.append(piece)

    def _conclude(self, arrivals: list[Arrival]) -> None:
        """Hand the message over if it is whole."""
        head = self._head
        if head is None or head.upgrade or self._left or self._chunks is not None:
            return
        if self._trailers and self._stream is None:  # only a stream can carry them
            self._open_stream(head, arrivals)
        if self._stream is not None:
            self._end_stream()
            return
        body, self._body = self._body, []
        self._head = None
        arrivals.append(
            Arrival(head, body[0] if len(body) == 1 else b"".join(body), self._new_ids, self._hop)
        )

    def _open_stream(self, head: Head, arrivals: list[Arrival]) -> None:
        self._stream = stream = Stream(self._flow, head.length)
        stream.account(self._ledger)
        pieces, self._body = self._body, []
        for piece in pieces:
            stream.feed(piece)
        arrivals.append(Arrival(head, stream, self._new_ids, self._hop))

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        trailers, self._trailers = self._trailers, ()
        self._head = None
        if stream is not None:
            stream.end(trailers)
