"""Transport-neutral request and answer, and the one verb every layer answers: ``exchange(call) -> reply``.

A body is either complete (``bytes``) or a `Stream` in transit. Header fields are raw bytes in the order and
case in which they arrived; hop-by-hop fields and framing (`Content-Length`, `Transfer-Encoding`) never
enter a `Headers` tuple: each side regenerates its own framing from the body, so that two messages can never
disagree about where one ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy.timing import NEVER, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.errors import ProxyError

__all__ = ("Body", "Call", "Flow", "Headers", "Ledger", "Reply", "Stream", "Upstream", "field")

Headers = tuple[tuple[bytes, bytes], ...]
"""(name, value) pairs, end-to-end fields only, in arrival order, case kept, duplicates kept."""


def field(headers: Headers, name: bytes) -> bytes | None:
    """The first value of the field `name` (lower case) in `headers`, or None."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


class Flow(Protocol):
    """The producing end of a `Stream`: what its consumer may ask of it."""

    def pause(self) -> None:
        """Produce nothing more for now: the consumer is slow."""

    def resume(self) -> None:
        """Go on producing."""

    def abandon(self) -> None:
        """Nobody reads any more: free the source."""


class Ledger:
    """How many bytes of bodies are held in memory, over all calls of a listener or a process.

    `used` counts what waits in streams, in gathered bodies and behind slow readers; it may pass `limit` by
    what one read brings. Above three quarters of it every stream is kept to one read at a time; at `limit`
    no new call is admitted.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def is_full(self) -> bool:
        """True when no new call may come in."""
        return self.used >= self.limit

    @property
    def is_tight(self) -> bool:
        """True when streams may hold one read only."""
        return 4 * self.used > 3 * self.limit


def _in_turn(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


class Stream:
    """A body in transit: one producer feeds it, one consumer reads it, and neither can outrun the other.

    The producer calls `feed`, then exactly one of `end` and `fail`. The consumer awaits `read` until it
    returns ``b""``, or calls `abandon` when it loses interest. Above `high` buffered bytes the producer is
    paused; at or below `low` it is resumed. With a `ledger` its bytes count there, and a tight ledger pauses
    the producer earlier.

    `length` is the declared number of bytes, or None when only the end will tell; `delivered` counts what the
    consumer took. `trailers` is complete once `read` has returned ``b""``.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_ended",
        "_error",
        "_flow",
        "_gathered",
        "_high",
        "_ledger",
        "_low",
        "_on_close",
        "_paused",
        "_waiter",
        "buffered",
        "delivered",
        "length",
        "trailers",
    )

    def __init__(
        self, flow: Flow | None, length: int | None = None, *, high: int = 256 * 1024, low: int = 64 * 1024
    ) -> None:
        self.length = length
        self.trailers: Headers = ()
        self.buffered = 0
        self.delivered = 0
        self._flow = flow
        self._high = high
        self._low = low
        self._chunks: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._closed = False
        self._paused = False
        self._error: ProxyError | None = None
        self._ledger: Ledger | None = None
        self._gathered = 0
        self._on_close: Callable[[], None] | None = None

    # ------------------------------------------------------------- producer
    def feed(self, data: bytes) -> None:
        """Add bytes; pauses the producer's `Flow` above the high watermark."""
        if self._closed:
            return
        self._chunks.append(data)
        self.buffered += len(data)
        is_tight = False
        if self._ledger is not None:
            self._ledger.used += len(data)
            is_tight = self._ledger.is_tight
        if (is_tight or self.buffered > self._high) and not self._paused and self._flow is not None:
            self._paused = True
            self._flow.pause()
        self._wake()

    def end(self, trailers: Headers = ()) -> None:
        """The body is whole."""
        self.trailers = trailers
        self._ended = True
        self._flow = None
        self._wake()

    def fail(self, error: ProxyError) -> None:
        """The body will never be whole; the consumer gets `error` after the bytes that did arrive."""
        if self._ended:
            return
        self._error = error
        self._ended = True
        self._flow = None
        self._wake()

    def account(self, ledger: Ledger) -> None:
        """Count this body's bytes in `ledger` from now on."""
        if self._ledger is None and not self._closed:
            self._ledger = ledger
            ledger.used += self.buffered

    # ------------------------------------------------------------- consumer
    @property
    def is_ended(self) -> bool:
        """True once the producer has said its last word (bytes may still be buffered)."""
        return self._ended

    @property
    def is_whole(self) -> bool:
        """True when the end has come, cleanly, and every byte has been read."""
        return self._ended and self._error is None and not self._chunks

    @property
    def error(self) -> ProxyError | None:
        """Why the producer broke off, if it did."""
        return self._error

    async def read(self) -> bytes:
        """All bytes that are there, at least one; ``b""`` at the end.

        Raises the producer's `ProxyError` when the body broke off.
        """
        while not self._chunks:
            if self._ended:
                self._finish()
                if self._error is not None:
                    raise self._error
                return b""
            await self._news()
        return self._take()

    def read_nowait(self) -> bytes:
        """All bytes that are there, possibly none."""
        return self._take() if self._chunks else b""

    def unread(self, data: bytes) -> None:
        """Put back what was read last, for another reader to start with."""
        self._chunks.appendleft(data)
        self.buffered += len(data)
        self.delivered -= len(data)
        if self._ledger is not None:
            self._ledger.used += len(data)

    async def gather(self, limit: int) -> bytes | None:
        """The whole body at once; None when it has more than `limit` bytes or trailers, breaks off, or memory
        is tight. Nothing is lost then: it can be read as before.

        What was gathered stays on the ledger until `abandon`.
        """
        if self.length is not None and self.length > limit:
            return None
        usual, self._high = self._high, limit
        try:
            if self._paused and self.buffered <= limit:
                self._go_on()
            while not self._ended:
                if self._paused:
                    return None
                await self._news()
        finally:
            self._high = usual
        if self._error is not None or self.trailers or self.buffered > limit:
            return None
        data = self.read_nowait()
        if self._ledger is not None:
            self._ledger.used += len(data)
            self._gathered = len(data)
        self._finish()
        return data

    def abandon(self) -> None:
        """The consumer leaves; idempotent. An unfinished producer is told to free its source."""
        self._chunks.clear()
        if self._ledger is not None:
            self._ledger.used -= self.buffered + self._gathered
        self.buffered = self._gathered = 0
        flow, self._flow = self._flow, None
        if flow is not None and not self._ended:
            flow.abandon()
        self._finish()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Run `callback` once, when the consumer has read the end or left; several run in order."""
        if self._closed:
            callback()
        elif self._on_close is None:
            self._on_close = callback
        else:
            self._on_close = partial(_in_turn, self._on_close, callback)

    # ------------------------------------------------------------- internals
    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks.popleft() if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.delivered += self.buffered
        if self._ledger is not None:
            self._ledger.used -= self.buffered
        self.buffered = 0
        if self._paused:
            self._go_on()
        return data

    def _go_on(self) -> None:
        self._paused = False
        if self._flow is not None:
            self._flow.resume()

    async def _news(self) -> None:
        """Until the producer says something."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _finish(self) -> None:
        if self._closed:
            return
        self._closed = True
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback()


Body = bytes | Stream


class Call:
    """One request on its way upstream.

    `target` is the origin-form target exactly as it was received. `scheme`, `peer` (client address) and
    `http_version` (1.0 as 10, 1.1 as 11, HTTP/2 as 20) describe how it came in. The spans ``queue_s`` (in a
    lane), ``pool_s`` (waiting for a connection) and ``upstream_s`` are filled in on the way and feed
    telemetry; ``batch`` says how the call was batched, for the debug header. ``dialect`` is the protocol in
    whose words Pillion reports its own errors, known once the call has its route.

    `is_grpc` says that the client speaks gRPC: errors must reach it as gRPC statuses.

    `idempotent` allows a repetition when a pooled connection turns out to be dead (routing knows the
    inference paths for which a POST is). `upgrade` is the protocol that the client wants to switch to
    (RFC 9110 §7.8) or empty; the body is then a `Stream` of what the client sends *after* a ``101``, whose
    `Reply` carries the other direction. `on_informational` is told of interim answers (100, 102, 103).
    `identity` says who the client proved to be (opaque; empty: nobody was asked): calls of two identities
    never share a batch.
    """

    __slots__ = (
        "batch",
        "body",
        "deadline",
        "dialect",
        "headers",
        "http_version",
        "idempotent",
        "identity",
        "is_grpc",
        "method",
        "on_informational",
        "peer",
        "pool_s",
        "queue_s",
        "scheme",
        "started_at",
        "target",
        "upgrade",
        "upstream_s",
    )

    def __init__(
        self, method: bytes, target: bytes, headers: Headers, body: Body = b"", *, deadline: Deadline = NEVER
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.deadline = deadline
        self.http_version = 11
        self.scheme = b"http"
        self.peer = b""
        self.idempotent = False
        self.is_grpc = False
        self.identity = b""
        self.upgrade = b""
        self.on_informational: Callable[[int, Headers], None] | None = None
        self.started_at = 0.0
        self.queue_s = 0.0
        self.pool_s = 0.0
        self.upstream_s = 0.0
        self.batch = b""
        self.dialect = "generic"

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        return field(self.headers, name)

    def claim_body(self) -> None:
        """Said by whoever reads the body here instead of passing it on: a client that waits for leave to send
        gets it from us, and the backend is not asked for it any more."""
        if self.header(b"expect") is not None:
            self.headers = tuple([pair for pair in self.headers if pair[0].lower() != b"expect"])
            if self.on_informational is not None:
                self.on_informational(100, ())


class Reply:
    """One answer on its way downstream; an upstream error status is an ordinary reply.

    `source` names who made it (``upstream``, ``proxy``, ``batch``, ``cache``). `reason` is the reason phrase.
    `declared_length` is set only where there is no body to regenerate ``Content-Length`` from: an answer to
    HEAD and a 304 say with it how long the body would have been. `trailers` follow a
    complete body; a `Stream` has its own.
    """

    __slots__ = ("body", "declared_length", "headers", "reason", "source", "status", "trailers")

    def __init__(
        self,
        status: int,
        headers: Headers,
        body: Body = b"",
        *,
        reason: bytes = b"",
        source: str = "upstream",
        declared_length: int | None = None,
    ) -> None:
        self.declared_length = declared_length
        self.trailers: Headers = ()
        self.status = status
        self.headers = headers
        self.body = body
        self.reason = reason
        self.source = source

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        return field(self.headers, name)


class Upstream(Protocol):
    """Whoever answers calls: a pool, a cluster, a lane's sender, a fake in a test."""

    async def exchange(self, call: Call) -> Reply:
        """Send `call`, return the answer; raises `ProxyError`. Cancelling it frees whatever it holds."""
