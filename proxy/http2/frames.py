"""HTTP/2 frames (RFC 9113 §4, §6): bytes in, frames out, and the other way round.

Theory of operation
-------------------
A frame is nine octets of header (24 bits of length, 8 of type, 8 of flags, one reserved bit, 31 bits of
stream) and a payload. `FrameReader` cuts a byte stream into `(type, flags, stream, payload)` tuples and knows
nothing about their meaning but the one rule that needs no state: a payload longer than the size we allow ends
the connection before it is buffered. Whole frames are cut straight out of what was read (one copy, the slice
that becomes the body chunk); only the unfinished tail of a read is kept, in a bytearray, so that a peer which
sends one octet at a time costs linear, not quadratic, work.

Types and flags are plain ints and frames are plain tuples because this is the innermost loop of the proxy: a
gRPC call passes here five times on each side.

The payload functions at the end check what §6 says about one frame alone: lengths, padding, reserved bits.
Which frame may come when is the session's business. PRIORITY is checked for its length and otherwise ignored,
as RFC 9113 §5.3.2 allows."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.http2.errors import ErrorCode, SessionError, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = (
    "ACK",
    "CONTINUATION",
    "DATA",
    "DEFAULT_FRAME_SIZE",
    "DEFAULT_WINDOW",
    "END_HEADERS",
    "END_STREAM",
    "FRAME_NAMES",
    "GOAWAY",
    "HEADERS",
    "HEADER_SIZE",
    "MAX_FRAME_SIZE",
    "MAX_STREAM_ID",
    "MAX_WINDOW",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FLAG",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "SETTING_ENABLE_PUSH",
    "SETTING_HEADER_TABLE_SIZE",
    "SETTING_INITIAL_WINDOW_SIZE",
    "SETTING_MAX_CONCURRENT_STREAMS",
    "SETTING_MAX_FRAME_SIZE",
    "SETTING_MAX_HEADER_LIST_SIZE",
    "WINDOW_UPDATE",
    "Frame",
    "FrameReader",
    "Piece",
    "data_frame",
    "data_header",
    "frame",
    "goaway_frame",
    "header_frames",
    "message_frames",
    "parse_goaway",
    "parse_reset",
    "parse_settings",
    "parse_window_update",
    "ping_frame",
    "reset_frame",
    "settings_ack",
    "settings_frame",
    "strip_padding",
    "strip_priority",
    "unpack_header",
    "window_update_frame",
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
FRAME_NAMES: Final = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20
_LAST: Final = END_HEADERS | END_STREAM

SETTING_HEADER_TABLE_SIZE: Final = 0x1
SETTING_ENABLE_PUSH: Final = 0x2
SETTING_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTING_INITIAL_WINDOW_SIZE: Final = 0x4
SETTING_MAX_FRAME_SIZE: Final = 0x5
SETTING_MAX_HEADER_LIST_SIZE: Final = 0x6

HEADER_SIZE: Final = 9
DEFAULT_FRAME_SIZE: Final = 1 << 14
MAX_FRAME_SIZE: Final = (1 << 24) - 1
DEFAULT_WINDOW: Final = (1 << 16) - 1
MAX_WINDOW: Final = (1 << 31) - 1
MAX_STREAM_ID: Final = (1 << 31) - 1

Piece = bytes | memoryview
"""Something to be written; a view is of bytes."""

Frame = tuple[int, int, int, bytes]
"""(type, flags, stream id, payload)."""

_HEADER: Final = Struct(">IBI")  # length and type share the first word
_WORD: Final = Struct(">I")
_TWO_WORDS: Final = Struct(">II")
_SETTING: Final = Struct(">HI")
_RESET: Final = Struct(">IBII")
_PRIORITY_SIZE: Final = 5

_pack_header: Final = _HEADER.pack
unpack_header: Final[Callable[[bytes | bytearray | memoryview, int], tuple[int, int, int]]] = (
    _HEADER.unpack_from
)
"""(length and type, flags, stream id with its reserved bit) of the frame header at an offset."""


class FrameReader:
    """Cuts what was read into frames; keeps the unfinished tail.

    `max_frame_size` is the largest payload accepted, in bytes; a larger one raises `SessionError`
    (FRAME_SIZE_ERROR) as soon as its header is there.
    """

    __slots__ = ("_pending", "max_frame_size")

    def __init__(self, max_frame_size: int = DEFAULT_FRAME_SIZE) -> None:
        self.max_frame_size = max_frame_size
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames completed by `data`, in order; the iterator must be run to its end."""
        first, position = self.complete(data)
        if first:
            word, flags, stream_id = unpack_header(first, 0)
            yield word & 0xFF, flags, stream_id & MAX_STREAM_ID, first[HEADER_SIZE:]
        size = len(data)
        while size - position >= HEADER_SIZE:
            word, flags, stream_id = unpack_header(data, position)
            end = self.end(word, stream_id, position)
            if end > size:
                break
            yield word & 0xFF, flags, stream_id & MAX_STREAM_ID, data[position + HEADER_SIZE : end]
            position = end
        self.keep(data, position)

    @property
    def begun(self) -> int | None:
        """The type of the frame that was begun, None when there is none or it does not say yet."""
        return self._pending[3] if len(self._pending) > 3 else None

    # ------------------------------------------------------------- for an owner that runs the loop itself
    @property
    def held(self) -> int:
        """Bytes that were kept."""
        return len(self._pending)

    def take(self) -> bytes:
        """What was kept."""
        data = bytes(self._pending)
        self._pending.clear()
        return data

    def complete(self, data: bytes) -> tuple[bytes, int]:
        """The frame that was begun before, if `data` completes it, and where the next one begins in `data`.

        Nothing else is copied: a read is much larger than the part of a frame that it begins with.
        """
        pending = self._pending
        if not pending:
            return b"", 0
        missing = self._missing(data)
        if missing > len(data):
            pending += data
            return b"", len(data)
        first = b"".join((pending, data[:missing]))
        pending.clear()
        return first, missing

    def end(self, word: int, stream_id: int, position: int) -> int:
        """Where the frame ends whose header, at `position`, begins with `word`; it may be too large."""
        size = word >> 8
        if size > self.max_frame_size:
            raise _too_large(word, stream_id, self.max_frame_size)
        return position + HEADER_SIZE + size

    def keep(self, data: bytes, position: int) -> None:
        """`data` from `position` on holds no whole frame yet."""
        if position < len(data):
            self._pending += data[position:] if position else data

    def _missing(self, data: bytes) -> int:
        """Octets to the end of the frame that was begun; more than there are when its header is not whole."""
        pending = self._pending
        head = pending if len(pending) >= HEADER_SIZE else pending + data[: HEADER_SIZE - len(pending)]
        if len(head) < HEADER_SIZE:
            return len(data) + 1
        word, _flags, stream_id = unpack_header(head, 0)
        return self.end(word, stream_id, 0) - len(pending)


def _too_large(word: int, stream_id: int, limit: int) -> SessionError:
    kind = word & 0xFF
    name = FRAME_NAMES[kind] if kind < len(FRAME_NAMES) else f"type {kind}"
    why = f"{name} frame of {word >> 8} bytes, {limit} are allowed"
    return SessionError(ErrorCode.FRAME_SIZE_ERROR, why, stream_id & MAX_STREAM_ID)


# ---------------------------------------------------------------- encoding
def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame; the caller answers for its length."""
    return _pack_header(len(payload) << 8 | kind, flags, stream_id) + payload


def data_header(stream_id: int, size: int) -> bytes:
    """What stands before `size` bytes of DATA without padding that do not end the stream."""
    return _pack_header(size << 8, 0, stream_id)


def data_frame(stream_id: int, data: Piece, *, end_stream: bool) -> tuple[Piece, Piece]:
    """A DATA frame without padding, in two pieces: the data may be large."""
    return _pack_header(len(data) << 8, end_stream, stream_id), data


def header_frames(stream_id: int, block: bytes, max_frame_size: int, *, end_stream: bool) -> bytes:
    """HEADERS and as many CONTINUATIONs as `block` needs: one piece, as nothing may come between them."""
    if len(block) <= max_frame_size:
        return _pack_header(len(block) << 8 | HEADERS, END_HEADERS | end_stream, stream_id) + block
    parts = [block[start : start + max_frame_size] for start in range(0, len(block), max_frame_size)]
    frames = [frame(HEADERS, int(end_stream), stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream_id, parts[-1]))
    return b"".join(frames)


def message_frames(stream_id: int, block: bytes, data: bytes, trailers: bytes | None) -> tuple[bytes, ...]:
    """A whole message in pieces to be joined: HEADERS, DATA unless `data` is empty, trailers unless None.

    The caller has seen to it that each part fits one frame.
    """
    if trailers is None:
        if not data:
            return _pack_header(len(block) << 8 | HEADERS, _LAST, stream_id), block
        head = _pack_header(len(block) << 8 | HEADERS, END_HEADERS, stream_id)
        return head, block, _pack_header(len(data) << 8, END_STREAM, stream_id), data
    head = _pack_header(len(block) << 8 | HEADERS, END_HEADERS, stream_id)
    tail = _pack_header(len(trailers) << 8 | HEADERS, _LAST, stream_id)
    if not data:
        return head, block, tail, trailers
    return head, block, _pack_header(len(data) << 8, 0, stream_id), data, tail, trailers


def reset_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return _RESET.pack(4 << 8 | RST_STREAM, 0, stream_id, code)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return _RESET.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id, increment)


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS with (identifier, value) pairs."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in settings))


def settings_ack() -> bytes:
    """SETTINGS with ACK."""
    return frame(SETTINGS, ACK, 0)


def ping_frame(payload: bytes, *, ack: bool) -> bytes:
    """PING; `payload` is exactly 8 bytes."""
    return frame(PING, int(ack), 0, payload)


def goaway_frame(last_stream_id: int, code: int, debug: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last_stream_id, code) + debug)


# ---------------------------------------------------------------- payloads
def strip_padding(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The payload of DATA, HEADERS or PUSH_PROMISE without its padding (§6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a pad length", stream_id)
    padding = payload[0]
    if padding >= len(payload):
        raise SessionError(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame", stream_id)
    return payload[1 : len(payload) - padding]


def strip_priority(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The payload of HEADERS without the deprecated priority fields (§6.2)."""
    if not flags & PRIORITY_FLAG:
        return payload
    if len(payload) < _PRIORITY_SIZE:
        raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority", stream_id)
    return payload[_PRIORITY_SIZE:]


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """(identifier, value) pairs in order; values are range-checked (§6.5.2), unknown identifiers kept."""
    if len(payload) % _SETTING.size:
        raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS is not a multiple of 6 bytes")
    settings = list(_SETTING.iter_unpack(payload))
    for name, value in settings:
        if name == SETTING_ENABLE_PUSH and value > 1:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}")
        if name == SETTING_INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise SessionError(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}")
        if name == SETTING_MAX_FRAME_SIZE and not DEFAULT_FRAME_SIZE <= value <= MAX_FRAME_SIZE:
            raise SessionError(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}")
    return settings


def parse_reset(stream_id: int, payload: bytes) -> int:
    """The error code of RST_STREAM."""
    return _word(RST_STREAM, stream_id, payload)


def parse_window_update(stream_id: int, payload: bytes) -> int:
    """The increment, 1 to 2^31-1 bytes; zero costs the stream, on stream 0 the connection (§6.9)."""
    increment = _word(WINDOW_UPDATE, stream_id, payload) & MAX_WINDOW
    if increment == 0:
        error = StreamError if stream_id else SessionError
        raise error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE with an increment of 0", stream_id)
    return increment


def parse_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """(last stream id, error code, debug data)."""
    if len(payload) < _TWO_WORDS.size:
        raise SessionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes")
    last_stream_id, code = _TWO_WORDS.unpack_from(payload)
    return last_stream_id & MAX_STREAM_ID, code, payload[_TWO_WORDS.size :]


def _word(kind: int, stream_id: int, payload: bytes) -> int:
    if len(payload) != _WORD.size:
        raise SessionError(ErrorCode.FRAME_SIZE_ERROR, f"{FRAME_NAMES[kind]} is not 4 bytes long", stream_id)
    (word,) = _WORD.unpack(payload)
    return int(word)
