"""Taking a chunked request body out of its chunks, strictly (pure).

Theory of operation
-------------------
A chunk is a size in hexadecimal, possibly an extension, CRLF, the data, CRLF; the last one has size 0 and is
followed by trailer fields and an empty line (RFC 9112 §7.1). No sign, no ``0x``, no white space, no bare line
feed is a size, and a size has at most 16 digits, because every reading of such a line that some server has
accepted was an attack on the next server.

Extensions mean something to the connection they came on and nothing behind it: they are dropped, and bounded,
because they cost the sender one byte and the reader a look at each. Which trailer fields go on is not decided
here.

Data is handed out in the pieces in which it came. The work for each chunk is constant, so a body of chunks
of one byte costs what its bytes on the wire cost.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.errors import BadRequest, BodyTooLarge, HeadersTooLarge
from proxy.ingress.grammar import read_fields

if TYPE_CHECKING:
    from proxy.exchange import Headers
    from proxy.ingress.policy import LimitPolicy

__all__ = ("ChunkDecoder",)

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)(;[\t -~\x80-\xff]*+)?+\r\n")
_SIZE_LINE_BEGUN: Final = re.compile(rb"[0-9A-Fa-f]{0,16}+(;[\t -~\x80-\xff]*+)?+\r?")
_MOST_EXTENSION_BYTES: Final = 4096  # in one body


class ChunkDecoder:
    """Decodes one body; `trailers` is complete once `feed` has returned the rest."""

    __slots__ = ("_carried", "_extension_bytes", "_is_last", "_left", "_limits", "size", "trailers")

    def __init__(self, limits: LimitPolicy) -> None:
        self._limits = limits
        self._carried = b""  # of a line that is not whole
        self._left = 0  # of the chunk in hand: its data and its CRLF
        self._is_last = False
        self._extension_bytes = 0
        self.size = 0
        self.trailers: Headers = ()

    def feed(self, data: bytes, pos: int, pieces: list[bytes]) -> int:
        """Read on in `data` from `pos`, adding body data to `pieces`.

        Returns where in `data` the next message begins, or -1 when this one goes on.
        """
        whole, at = data, pos
        carried, self._carried = self._carried, b""
        if carried:
            whole, at = carried + data[pos:], 0
        while not self._is_last:
            if self._left:
                at = self._take_data(whole, at, pieces)
            if self._left:
                return -1
            match = _SIZE_LINE.match(whole, at)
            if match is None:
                self._carry(whole, at)
                return -1
            self._begin_chunk(match)
            at = match.end()
        end = self._take_trailers(whole, at)
        return end - len(carried) + pos if carried and end >= 0 else end

    def _begin_chunk(self, match: re.Match[bytes]) -> None:
        size = int(match[1], 16)
        if match[2] is not None:
            self._extension_bytes += len(match[2])
        if self._extension_bytes > _MOST_EXTENSION_BYTES:
            raise BadRequest("too many bytes of chunk extensions")
        self.size += size
        if self.size > self._limits.body:
            raise BodyTooLarge(f"request body over {self._limits.body} bytes")
        self._is_last = size == 0
        self._left = size + 2 if size else 0

    def _take_data(self, whole: bytes, at: int, pieces: list[bytes]) -> int:
        """Hand out what there is of the chunk in hand and check its CRLF; where reading goes on."""
        available = len(whole) - at
        size = self._left - 2
        if size > 0 and self._left <= available and whole.startswith(b"\r\n", at + size):
            pieces.append(whole[at : at + size])
            at += self._left
            self._left = 0
            return at
        if size > 0:
            piece = whole[at : at + min(size, available)]
            if piece:
                pieces.append(piece)
            self._left -= len(piece)
            at += len(piece)
            available -= len(piece)
        ending = whole[at : at + self._left] if self._left <= 2 else b""
        if ending != b"\r\n"[2 - self._left : 2 - self._left + len(ending)]:
            raise BadRequest("a chunk does not end where its size says")
        self._left -= len(ending)
        return at + len(ending)

    def _carry(self, whole: bytes, at: int) -> None:
        self._carried = whole[at:]
        if len(self._carried) > _MOST_EXTENSION_BYTES + 20 or not _SIZE_LINE_BEGUN.fullmatch(self._carried):
            raise BadRequest("malformed chunk size")

    def _take_trailers(self, whole: bytes, at: int) -> int:
        """Where the message ends; -1 when its trailer section is not whole."""
        if whole.startswith(b"\r\n", at):
            return at + 2
        end = whole.find(b"\r\n\r\n", at)
        if len(whole) - at > self._limits.header_bytes and (end < 0 or end - at > self._limits.header_bytes):
            raise HeadersTooLarge(f"trailers over {self._limits.header_bytes} bytes")
        if end < 0:
            self._carried = whole[at:]
            if self._carried.count(b"\n") != self._carried.count(b"\r\n"):
                raise BadRequest("malformed trailers")
            return -1
        self.trailers = tuple(read_fields(whole[at : end + 2], self._limits))
        return end + 4
