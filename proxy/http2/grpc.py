"""What of gRPC a relay must understand: its timeouts, its status trailers, and how HTTP/2 errors read as
statuses.

Theory of operation
-------------------
A relay never opens a gRPC message; where an operator bounds their size, it reads the length before each. Else
it speaks gRPC in three places only: it recomputes ``grpc-timeout`` from what is left of the call's deadline,
so that time spent with us is not given twice; it answers for itself with a trailers-only response, a single
header block that carries status 200, ``grpc-status`` and ``grpc-message``; and it says what a reset stream or
a plain HTTP status means to a client that only knows gRPC codes. The formats are those of the protocol
description *gRPC over HTTP/2*.

``grpc-timeout`` is at most eight digits and a unit. It is written with the finest unit in which the span fits
eight digits, rounded up: a backend that gives up a moment after us is harmless, one that gives up before us
turns our 504 into its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from proxy.exchange import field

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = (
    "MessageMeter",
    "encode_message",
    "format_timeout",
    "http_status",
    "parse_timeout",
    "status_headers",
)

_UNITS: Final = {b"n": 1e-9, b"u": 1e-6, b"m": 1e-3, b"S": 1.0, b"M": 60.0, b"H": 3600.0}
_MOST: Final = 99_999_999
_MOST_DIGITS: Final = 8
_PREFIX: Final = 5
_FINEST_S: Final = 99.0  # nearly all spans: written in microseconds, without a look at the other units
# The mapping that gRPC's HTTP/JSON gateways use, by code in decimal.
_HTTP_STATUSES: Final = {
    b"%d" % code: status
    for code, status in enumerate(
        (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
    )
}
_OK: Final = (b"grpc-status", b"0")
# How servers word a RESOURCE_EXHAUSTED that is about one message's size: C core and Go, Java.
_TOO_LARGE: Final = (b"larger than max", b"exceeds maximum size")
_MESSAGE_SAFE: Final = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


class MessageMeter:
    """Reads the lengths that a call's messages declare, whatever the pieces in which they come.

    A message is a byte of flags, four of length, and as many as these say.
    """

    __slots__ = ("_is_over", "_left", "_limit", "_prefix")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._prefix = b""
        self._left = 0
        self._is_over = False

    def is_over(self, data: bytes | memoryview) -> bool:
        """Take the next piece; whether any message so far declares more than `limit` bytes."""
        pos, size = 0, len(data)
        while pos < size and not self._is_over:
            if self._left:
                step = min(self._left, size - pos)
                self._left -= step
                pos += step
                continue
            part = bytes(data[pos : pos + _PREFIX - len(self._prefix)])
            pos += len(part)
            self._prefix += part
            if len(self._prefix) == _PREFIX:
                self._left = int.from_bytes(self._prefix[1:])
                self._prefix = b""
                self._is_over = self._left > self._limit
        return self._is_over


def parse_timeout(value: bytes) -> float | None:
    """Seconds of ``100m`` and the like; None for anything else."""
    unit, digits = _UNITS.get(value[-1:]), value[:-1]
    if unit is None or len(digits) > _MOST_DIGITS or not digits.isdigit():
        return None
    return int(digits) * unit


def format_timeout(seconds: float) -> bytes:
    """The value of ``grpc-timeout`` for a span; a negative span is none left."""
    if 0.0 < seconds < _FINEST_S:
        return b"%du" % math.ceil(seconds * 1e6 * (1 - 1e-12))
    for unit in (b"u", b"m", b"S", b"M"):
        # A microsecond count such as 0.1 / 1e-6 may come out a hair above the integer; do not round that up.
        count = math.ceil(max(seconds, 0.0) / _UNITS[unit] * (1 - 1e-12))
        if count <= _MOST:
            return b"%d%s" % (count, unit)
    return b"%dH" % min(math.ceil(seconds / 3600), _MOST)


def encode_message(message: str) -> bytes:
    """The value of ``grpc-message``: percent-encoded UTF-8, printable ASCII as it is."""
    return quote_from_bytes(message.encode(), safe=_MESSAGE_SAFE).encode()


def http_status(status: int, fields: Headers) -> int:
    """What an answer with HTTP `status` and these trailers means in HTTP's terms, for accounting.

    An answer of a gRPC server is always 200; how the call ended stands in ``grpc-status``. Without it the
    answer is no gRPC at all, and its own status counts unless that claims success. A message that is too
    large is a 413, which gRPC has no code for.
    """
    if fields and fields[0] == _OK:
        return 200
    code = field(fields, b"grpc-status")
    if code is None:
        return status if status != 200 else 502
    if code == b"8":
        message = field(fields, b"grpc-message") or b""
        return 413 if any(words in message for words in _TOO_LARGE) else 429
    return _HTTP_STATUSES.get(code, 500)


def status_headers(code: int, message: str, retry_after_s: float | None = None) -> Headers:
    """The headers of a trailers-only answer; `retry_after_s` tells a client that retries when to."""
    headers = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", encode_message(message)),
    )
    if retry_after_s is None:
        return headers
    return (*headers, (b"grpc-retry-pushback-ms", b"%d" % max(1, math.ceil(retry_after_s * 1000))))
