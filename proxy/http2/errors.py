"""What can go wrong on an HTTP/2 connection, and how far it reaches (RFC 9113 §5.4).

A `StreamError` costs one stream: the peer gets RST_STREAM and every other stream goes on. A `SessionError`
(the RFC's *connection error*) costs the connection: the peer gets GOAWAY. Both name the error code that goes
on the wire, the stream at which it happened and, in words, why: the words travel in GOAWAY's debug data and
in the event that the owner of the session logs."""

from __future__ import annotations

from enum import IntEnum

__all__ = ("ErrorCode", "Http2Error", "SessionError", "StreamError", "describe")


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def describe(code: int) -> str:
    """The name of an error code; unknown codes are legal on the wire and are shown as numbers."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"0x{code:x}"


class Http2Error(Exception):
    """A broken rule: the `code` to send, the `stream_id` where it happened (0: none), and `why` in words."""

    def __init__(self, code: ErrorCode, why: str, stream_id: int = 0) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.stream_id = stream_id

    def __str__(self) -> str:
        where = f" on stream {self.stream_id}" if self.stream_id else ""
        return f"{self.code.name}{where}: {self.why}"


class StreamError(Http2Error):
    """One stream ends with RST_STREAM; the connection goes on."""


class SessionError(Http2Error):
    """The whole connection ends with GOAWAY."""
