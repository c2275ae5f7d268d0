"""What passes between the protocols (pure) and the connection (I/O).

A protocol handler looks at a complete `Request` and returns an `Outcome`: what has to happen before the
client gets its answer. The connection executes it:

* `Answer`: nothing has to happen, write it.
* `Inference`: charge the cost model for `items`, then compute, then encode.
* `Load`: wait for the model, then write the answer.
* `Steps`: play a script of sends and waits (token streams, bulk downloads, faults).

`run` is called only after the cost has been paid and may raise `ApiError`, so that a poisoned batch costs
what a healthy one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = (
    "Answer",
    "ApiError",
    "Close",
    "Inference",
    "Load",
    "Outcome",
    "Request",
    "Reset",
    "Send",
    "Step",
    "Steps",
    "Wait",
    "chunk",
    "encode_json",
    "error_answer",
    "json_answer",
    "stream_head",
)

encode_json: Callable[[object], bytes] = msgspec.json.Encoder().encode

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


class Request:
    """One complete request. `path` is the target without its query; header names are lower case."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "version")

    def __init__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes = b""
    ) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.version = "1.1"

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Answer:
    """A complete answer. `declared` is the Content-Length when a fault makes it lie."""

    __slots__ = ("body", "content_type", "declared", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.declared: int | None = None

    def render(self, *, keep_alive: bool = True) -> bytes:
        """The answer's bytes on the wire."""
        body = self.body
        length = len(body) if self.declared is None else self.declared
        extra = b"" if keep_alive else b"Connection: close\r\n"
        for name, value in self.headers:
            extra += b"%s: %s\r\n" % (name, value)
        line = _STATUS_LINES.get(self.status) or b"HTTP/1.1 %d Unknown\r\n" % self.status
        return b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (
            line,
            self.content_type,
            length,
            extra,
            body,
        )


class ApiError(Exception):
    """The request cannot be served; `dialect` chooses the shape of the error body."""

    def __init__(self, status: int, message: str, dialect: Literal["plain", "openai"] = "plain") -> None:
        super().__init__(message)
        self.status = status
        self.dialect = dialect


@dataclass(slots=True, frozen=True)
class Send:
    """Write these bytes."""

    data: bytes


@dataclass(slots=True, frozen=True)
class Wait:
    """Let `span_s` pass; 0 is one turn of the event loop."""

    span_s: float


@dataclass(slots=True, frozen=True)
class Close:
    """Close the connection after what was sent."""


@dataclass(slots=True, frozen=True)
class Reset:
    """Break the connection with RST."""


Step = Send | Wait | Close | Reset


@dataclass(slots=True)
class Steps:
    """A script; the connection serves its next request when it ends."""

    steps: Iterator[Step]


@dataclass(slots=True)
class Inference:
    """`items` to be computed by `run`, which returns the answer."""

    model: str
    items: int
    run: Callable[[], Answer]


@dataclass(slots=True)
class Load:
    """Answer once `model` is loaded."""

    model: str
    answer: Answer


Outcome = Answer | Inference | Load | Steps


def json_answer(value: object, status: int = 200) -> Answer:
    """`value` as a JSON answer."""
    return Answer(status, encode_json(value))


def error_answer(error: ApiError) -> Answer:
    """The error in the dialect of the protocol that was spoken."""
    if error.dialect == "openai":
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        detail = {"message": str(error), "type": kind, "param": None, "code": None}
        return json_answer({"error": detail}, error.status)
    return json_answer({"error": str(error)}, error.status)


def stream_head(content_type: bytes, *, chunked: bool, keep_alive: bool, length: int | None = None) -> bytes:
    """The head of an answer whose body follows in steps."""
    framing = b""
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    if not keep_alive:
        framing += b"Connection: close\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n" % (content_type, framing)


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body; ``b""`` is the last."""
    return b"%x\r\n%s\r\n" % (len(data), data)
