"""Large messages at the least expense to their sender and taker, so that a proxy between is the limit.

`Pourer` sends messages of 64 KiB in DATA frames of 16 KiB, the most that every peer accepts: all streams
share the payloads, and a whole message is one step, as gRPC's own servers and clients write it. `Skimmer`
walks over what was read and looks at no body. Neither makes the peer wait but by the peer's own windows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from bench.calls.wire import message
from proxy.http2 import frames
from proxy.http2.frames import HEADER_SIZE, MAX_STREAM_ID, unpack_header

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

__all__ = ("MESSAGE", "UPLOAD", "WINDOW", "Found", "Pourer", "Skimmer", "Takings")

MESSAGE: Final = 64 << 10
"""Bytes of each message."""
UPLOAD: Final = 64
"""Messages of a call that sends them; a call that takes them has no end."""
WINDOW: Final = 1 << 30
_READ: Final = 1 << 20
_PREFACE: Final = -1

Found = tuple[int, int, int, int, bytes]
"""A frame: its kind, flags, stream and size, and its payload unless it is DATA."""

_WIRE: Final = message(MESSAGE)
_PIECES: Final = tuple(
    _WIRE[start : start + frames.DEFAULT_FRAME_SIZE]
    for start in range(0, len(_WIRE), frames.DEFAULT_FRAME_SIZE)
)


class Skimmer:
    """Cuts what one connection reads into frames; `skip` bytes before them are ignored."""

    def __init__(self, skip: int = 0) -> None:
        self._view = memoryview(bytearray(_READ))
        self._kept = 0  # bytes at the beginning of the view that were read before
        self._missing = skip  # bytes of the frame that was begun
        self._begun: Found = (_PREFACE, 0, 0, skip, b"")

    def free(self) -> memoryview:
        """Where to read to."""
        return self._view[self._kept :]

    def skim(self, nbytes: int) -> list[Found]:
        """The frames that are whole now that `nbytes` more were read."""
        view, end = self._view, self._kept + nbytes
        found: list[Found] = []
        position = min(self._missing, end)
        if position:
            self._missing -= position
            if not self._missing:
                found.append(self._begun)
        while end - position >= HEADER_SIZE:
            word, flags, stream_id = unpack_header(view, position)
            kind, size, start = word & 0xFF, word >> 8, position + HEADER_SIZE
            stop = start + size
            if kind == frames.DATA:
                whole: Found = (kind, flags, stream_id & MAX_STREAM_ID, size, b"")
                if stop > end:
                    self._begun, self._missing = whole, stop - end
                    position = end
                    break
            elif stop > end:
                break
            else:
                whole = (kind, flags, stream_id & MAX_STREAM_ID, size, bytes(view[start:stop]))
            found.append(whole)
            position = stop
        self._kept = end - position
        view[: self._kept] = view[position:end]
        return found


class Takings:
    """What the peer is owed of windows of `WINDOW` bytes: given back by the quarter."""

    def __init__(self) -> None:
        self._owed: dict[int, int] = {0: 0}

    def took(self, stream_id: int, size: int) -> Iterator[bytes]:
        """`size` bytes of DATA came: the updates to send, most often none."""
        for owner in (0, stream_id):
            owed = self._owed.get(owner, 0) + size
            if owed >= WINDOW // 4:
                yield frames.window_update_frame(owner, owed)
                owed = 0
            self._owed[owner] = owed

    def ended(self, stream_id: int) -> None:
        """The peer sends no more on the stream."""
        self._owed.pop(stream_id, None)


class _Outflow:
    """One stream's messages: the frames of each, which is the `next`, and how many messages are `left`."""

    __slots__ = ("frames", "left", "message", "next", "window")

    def __init__(self, stream_id: int, window: int, messages: float) -> None:
        self.frames = [(frames.data_header(stream_id, len(piece)), piece) for piece in _PIECES]
        self.message = [part for pair in self.frames for part in pair]
        self.next = 0
        self.left = messages
        self.window = window


class Pourer:
    """Sends on any number of streams at once, as the peer's windows and the socket allow."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._initial = self._window = frames.DEFAULT_WINDOW
        self._flows: dict[int, _Outflow] = {}
        self.is_writable = True

    def begin(self, stream_id: int, messages: float = math.inf) -> None:
        """From now on `pour` sends on the stream too; END_STREAM follows the last of `messages`."""
        self._flows[stream_id] = _Outflow(stream_id, self._initial, messages)

    def end(self, stream_id: int) -> None:
        """Nothing more is to be sent on the stream."""
        self._flows.pop(stream_id, None)

    def control(self, kind: int, stream_id: int, payload: bytes) -> None:
        """A frame that may open windows or end streams."""
        if kind == frames.SETTINGS:
            settings = dict(frames.parse_settings(payload))
            initial = settings.get(frames.SETTING_INITIAL_WINDOW_SIZE, self._initial)
            for flow in self._flows.values():
                flow.window += initial - self._initial
            self._initial = initial
        elif kind == frames.RST_STREAM:
            self.end(stream_id)
        elif kind == frames.WINDOW_UPDATE:
            increment = frames.parse_window_update(stream_id, payload)
            if not stream_id:
                self._window += increment
            elif stream_id in self._flows:
                self._flows[stream_id].window += increment

    def pour(self) -> None:
        """Send a message of each stream in turn, until the socket or every window is full."""
        has_sent = True
        while has_sent and self.is_writable and not self._transport.is_closing():
            flows = tuple(self._flows.items())
            parts = [part for stream_id, flow in flows for part in self._parts(stream_id, flow)]
            has_sent = bool(parts)
            self._transport.writelines(parts)

    def _parts(self, stream_id: int, flow: _Outflow) -> list[bytes]:
        """The next message, or what is left of it, or as much as the windows let through."""
        room = min(flow.window, self._window)
        if not flow.next and room >= len(_WIRE):
            parts, size, flow.next = flow.message, len(_WIRE), len(_PIECES)
        else:
            parts, size = [], 0
            for header, piece in flow.frames[flow.next :]:
                if size + len(piece) > room:
                    break
                parts += (header, piece)
                size += len(piece)
                flow.next += 1
        flow.window -= size
        self._window -= size
        if flow.next == len(_PIECES):
            flow.next = 0
            flow.left -= 1
            if not flow.left:
                self.end(stream_id)
                return [*parts, frames.frame(frames.DATA, frames.END_STREAM, stream_id, b"")]
        return parts
