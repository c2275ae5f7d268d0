"""Transport-neutral request and answer, and the one verb every layer answers: ``exchange(call) -> reply``.

A body is either complete (``bytes``) or a `Stream` in transit. Header fields are raw bytes in the order and
case in which they arrived; hop-by-hop fields and framing (`Content-Length`, `Transfer-Encoding`) never
enter a `Headers` tuple: each side regenerates its own framing from the body, so that two messages can never
disagree about where one ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.reservoir import Ledger
from proxy.timing import NEVER, Deadline
from proxy.transit import Flow, Headers, Sink, Stream, Watch

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = (
    "Body",
    "Call",
    "Flow",
    "Headers",
    "Ledger",
    "Reply",
    "Sink",
    "Stream",
    "Upstream",
    "Watch",
    "field",
)


def field(headers: Headers, name: bytes) -> bytes | None:
    """The first value of the field `name` (lower case) in `headers`, or None."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return None


Body = bytes | Stream


class Call:
    """One request on its way upstream.

    `target` is the origin-form target exactly as it was received. `scheme`, `peer` (client address) and
    `http_version` (1.0 as 10, 1.1 as 11, HTTP/2 as 20) describe how it came in. The spans ``queue_s`` (in a
    lane), ``pool_s`` (waiting for a connection) and ``upstream_s`` are filled in on the way and feed
    telemetry; ``batch`` says in what company the call travelled, for people. ``dialect`` is the protocol in
    whose words Pillion reports its own errors, known once the call has its route.

    `is_grpc` says that the client speaks gRPC: errors must reach it as gRPC statuses.

    `idempotent` allows a repetition when a pooled connection turns out to be dead (routing knows the
    inference paths for which a POST is). `upgrade` is the protocol that the client wants to switch to
    (RFC 9110 §7.8) or empty; the body is then a `Stream` of what the client sends *after* a ``101``, whose
    `Reply` carries the other direction. `on_informational` is told of interim answers (100, 102, 103).
    `identity` says who the client proved to be (opaque; empty: nobody was asked): calls of two identities
    never share a batch. `timeout_wish` is the client's ``X-Request-Timeout`` as it was sent, or empty.

    `head` is the same object for calls of one connection whose heads are the same but for their ids, so that
    what was found out about one can be kept for the next; None where no head was repeated yet.
    """

    __slots__ = (
        "batch",
        "body",
        "deadline",
        "dialect",
        "head",
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
        "timeout_wish",
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
        self.timeout_wish = b""
        self.head: object = None
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
