"""Transport-neutral request and answer, and the one verb every layer answers: ``exchange(call) -> reply``.

A body is either complete (``bytes``) or a `Stream` in transit. Header fields are raw bytes in the order and
case in which they arrived; hop-by-hop fields and framing (`Content-Length`, `Transfer-Encoding`) never
enter a `Headers` tuple: each side regenerates its own framing from the body, so that two messages can never
disagree about where one ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from proxy.inflow import Flow, Headers, Sink, Watch
from proxy.reservoir import Ledger
from proxy.timing import NEVER, Deadline
from proxy.transit import Stream

if TYPE_CHECKING:
    from proxy.errors import ProxyError


__all__ = (
    "Begun",
    "Body",
    "Call",
    "Flow",
    "Headers",
    "Ledger",
    "PromptUpstream",
    "Reply",
    "Rest",
    "Sink",
    "Stream",
    "Taker",
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
    telemetry; ``batch`` says in what company the call travelled, for people. ``dialect`` is how Pillion
    words its own errors, known once the call has its route.

    `is_grpc` says that the client speaks gRPC: errors must reach it as gRPC statuses.

    `idempotent` allows a repetition when a pooled connection turns out to be dead (routing knows the
    inference paths for which a POST is). `upgrade` is the protocol that the client wants to switch to
    (RFC 9110 §7.8) or empty; the body is then a `Stream` of what the client sends *after* a ``101``, whose
    `Reply` carries the other direction. `on_informational` is told of interim answers (100, 102, 103).
    `identity` says who the client proved to be (opaque; empty: nobody was asked): calls of two identities
    never share a batch. `certificate` is the name in the client's TLS certificate, for the log (empty: none
    was shown). `timeout_wish` is the client's ``X-Request-Timeout`` as it was sent, or empty.

    `head` is the same object for calls of one connection whose heads are the same but for their ids, so that
    what was found out about one can be kept for the next; None where no head was repeated yet.

    `was_repeated` once a pool has sent it again because its connection broke: each call gets that once.

    `is_newest` while its listener has read no call after it: whatever came in with it has come before it.

    `is_seen_off` is set by a listener that says `left` once the answer was written; what need not be done
    before that waits for it as `on_left`.
    """

    __slots__ = (
        "batch",
        "body",
        "certificate",
        "deadline",
        "dialect",
        "head",
        "http_version",
        "idempotent",
        "identity",
        "is_grpc",
        "is_newest",
        "is_seen_off",
        "method",
        "on_informational",
        "on_left",
        "own",
        "peer",
        "pool_s",
        "queue_s",
        "scheme",
        "shared",
        "started_at",
        "target",
        "timeout_wish",
        "upgrade",
        "upstream_s",
        "was_repeated",
    )

    def __init__(
        self, method: bytes, target: bytes, headers: Headers, body: Body = b"", *, deadline: Deadline = NEVER
    ) -> None:
        self.method = method
        self.target = target
        self.shared = headers
        self.own: Headers = ()
        self.body = body
        self.deadline = deadline
        self.http_version = 11
        self.scheme = b"http"
        self.peer = b""
        self.idempotent = False
        self.is_grpc = False
        self.is_newest = False
        self.was_repeated = False
        self.identity = b""
        self.certificate = b""
        self.timeout_wish = b""
        self.head: object = None
        self.upgrade = b""
        self.on_informational: Callable[[int, Headers], None] | None = None
        self.is_seen_off = False
        self.on_left: Callable[[], None] | None = None
        self.started_at = 0.0
        self.queue_s = 0.0
        self.pool_s = 0.0
        self.upstream_s = 0.0
        self.batch = b""
        self.dialect = "kserve"

    def left(self) -> None:
        """Said by a listener that sees calls off, when the answer was written, or never will be."""
        on_left, self.on_left = self.on_left, None
        if on_left is not None:
            on_left()

    @property
    def headers(self) -> Headers:
        """All fields."""
        return self.shared + self.own if self.own else self.shared

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self.shared = headers
        self.own = ()

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        return field(self.headers, name)

    def repeated(self) -> Call:
        """The same request as a call of our own, without a deadline: nobody waits for it, and its spans are
        nobody's to be told."""
        call = Call(self.method, self.target, self.shared, self.body)
        call.own = self.own
        call.head = self.head
        call.act_for(self)
        return call

    def act_for(self, original: Call) -> None:
        """Become a call in the name of the caller of `original`: who that is, how the request came in and
        whether it may be repeated do not stand in the message itself. Nobody is there to be told of interim
        answers."""
        self.http_version = original.http_version
        self.scheme = original.scheme
        self.peer = original.peer
        self.idempotent = original.idempotent
        self.is_grpc = original.is_grpc
        self.identity = original.identity
        self.certificate = original.certificate
        self.timeout_wish = original.timeout_wish
        self.started_at = original.started_at
        self.dialect = original.dialect

    def account_to(self, original: Call) -> None:
        """Tell where the time went to `original`, in whose name this call was made."""
        original.queue_s = self.queue_s
        original.pool_s = self.pool_s
        original.upstream_s = self.upstream_s
        original.batch = self.batch

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
    complete body; a `Stream` has its own. `added` are fields of this one answer that are sent behind
    `headers`: whoever makes something of those finds it again by their identity.
    """

    __slots__ = ("added", "body", "declared_length", "headers", "reason", "source", "status", "trailers")

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
        self.added: Headers = ()
        self.trailers: Headers = ()
        self.status = status
        self.headers = headers
        self.body = body
        self.reason = reason
        self.source = source

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        value = field(self.headers, name)
        return field(self.added, name) if value is None else value


class Upstream(Protocol):
    """Whoever answers calls: a pool, a cluster, a lane's sender, a fake in a test."""

    async def exchange(self, call: Call) -> Reply:
        """Send `call`, return the answer; raises `ProxyError`. Cancelling it frees whatever it holds."""


Rest = Callable[[], Coroutine[Any, Any, Reply]]
"""The rest of a call's way, to be run by a task."""


class Taker(Protocol):
    """Whoever waits for the outcome of a call that was begun: hears exactly one of these, once."""

    def take(self, reply: Reply) -> None:
        """The answer, or its head."""

    def fail(self, error: ProxyError) -> None:
        """There is no answer."""

    def go_on(self, rest: Rest) -> None:
        """What is left to do has to wait for something: `rest` is to be run, and brings the outcome.

        Until it has begun to run, the call can still be cancelled by its `Begun`.
        """


class Begun(Protocol):
    """A call on its way."""

    def cancel(self) -> None:
        """Nobody wants the outcome: the taker hears nothing, and whatever the call holds is freed."""


class PromptUpstream(Protocol):
    """An upstream that can send a call without waiting for anything, and so without a task."""

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send `call` if that takes no waiting; else None, and nothing has happened.

        The taker hears the outcome after this has returned.
        """
