"""Where WebSocket frames end, for the one moment at which the proxy has a word of its own to say (pure).

Theory of operation ------------------- A WebSocket is relayed as raw bytes. When the proxy shuts down,
though, its clients should hear ``1001 going away`` instead of a broken connection (RFC 6455 §7.4.1), and a
frame may only be put between two others. So the bytes on their way to the client are counted off by their
frame headers: two bytes, an extended length of two or eight more for 126 and 127, four bytes of mask if there
is one (a backend sends none), the payload. Nothing is decoded."""

from __future__ import annotations

from typing import Final

__all__ = ("GOING_AWAY", "FrameCounter")

GOING_AWAY: Final = b"\x88\x02\x03\xe9"
"""A whole close frame with status 1001, as a server sends it."""

_EXTENDED: Final = {126: 2, 127: 8}


class FrameCounter:
    """Counts frames in one direction of a connection."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""  # of a frame, while it is not whole
        self._left = 0  # payload bytes of the frame in hand

    @property
    def is_between(self) -> bool:
        """True when another frame could be put in now."""
        return not self._left and not self._header

    def feed(self, data: bytes, *, only_one: bool = False) -> int:
        """Count `data`; how much of it was taken: all, or with `only_one` the rest of the frame in hand."""
        pos, size = 0, len(data)
        while pos < size:
            if self._left:
                step = min(self._left, size - pos)
                self._left -= step
                pos += step
            else:
                self._header += data[pos : pos + 1]
                pos += 1
                self._read_header()
            if only_one and self.is_between:
                return pos
        return size

    def _read_header(self) -> None:
        header = self._header
        if len(header) < 2:
            return
        length = header[1] & 0x7F
        extended = _EXTENDED.get(length, 0)
        if len(header) < 2 + extended + (4 if header[1] & 0x80 else 0):
            return
        self._left = int.from_bytes(header[2 : 2 + extended], "big") if extended else length
        self._header = b""
