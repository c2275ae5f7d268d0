"""Header block decoding (RFC 7541), for blocks that no cache knows.

Theory of operation
-------------------
A block is a run of fields: an index into the static or the dynamic table, or a literal, which may be added to
the dynamic table. Clients in Go and Java add every field to it, those included whose value never comes again
(``grpc-timeout``, ``traceparent``): then each block differs from all earlier ones, and what `blocks` keeps is
of no use. So decoding has to be cheap as well.

An entry of either table is one ``(name, value)`` tuple, and a reference to it yields that very object: fields
that repeat compare by identity later. References of one octet are the most by far: a list has both tables at
the places that such octets name. The dynamic table is a list with the newest entry last, so that index 62 is
``[-1]``; it holds at most 128 entries, and dropping the oldest, or adding one to the other list, moves as
many pointers. Strings that were sent as text are sliced out; Huffman codes are decoded octet by octet with
the states of the `hpack` library's table, two of its steps (one for each nibble) remembered as one. No string
is remembered whole: those that come again do so by reference.

`changes` counts what alters the table, so that the owner can tell whether a block means the same next time.
The list is bounded as RFC 9113 §6.5.2 counts it. An error leaves the table unusable: it ends the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("STATIC_TABLE", "Decoder", "Field", "HpackError", "OversizedList", "is_over")

Field = tuple[bytes, bytes]

STATIC_TABLE: Final[tuple[Field, ...]] = tuple(
    (bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE
)
"""RFC 7541 appendix A; index 1 is its first entry."""

_FIRST_DYNAMIC: Final = len(STATIC_TABLE) + 1
_TABLE_SIZE: Final = 4096  # what RFC 7541 starts with; we never announce another one
_OVERHEAD: Final = 32
_LARGEST_INTEGER: Final = 1 << 28
_NOWHERE: Final[list[Field]] = [(b"", b"")] * 0x81
_STATIC_PLACES: Final[list[Field]] = [*_NOWHERE, *STATIC_TABLE]


class HpackError(Exception):
    """The block cannot be decoded."""


class OversizedList(HpackError):
    """The block says more than is allowed."""


def is_over(most: int, fields: Sequence[Field], block_size: int) -> bool:
    """Whether a list that stood in a block of `block_size` bytes has over `most` bytes, overhead included."""
    # An upper bound spares most blocks the sum: an entry is at most a table, a literal 8/5 of its code.
    if len(fields) * (_TABLE_SIZE + _OVERHEAD) + 2 * block_size <= most:
        return False
    return sum(len(name) + len(value) + _OVERHEAD for name, value in fields) > most


class Decoder:
    """The decoding half of one connection; `max_list_size` in bytes, overhead included."""

    __slots__ = ("_entries", "_limit", "_places", "_size", "changes", "max_list_size")

    def __init__(self, max_list_size: int) -> None:
        self.max_list_size = max_list_size
        self.changes = 0
        self._entries: list[Field] = []
        self._places = _STATIC_PLACES
        self._size = 0
        self._limit = _TABLE_SIZE

    def decode(self, block: bytes) -> list[Field]:
        """The fields of `block`, in order; raises `HpackError`."""
        fields: list[Field] = []
        position, end = 0, len(block)
        entries = self._entries
        try:
            while position < end:
                octet = block[position]
                if 0x80 < octet < 0xFF:
                    fields.append(self._places[octet])
                    position += 1
                elif octet == 0xFF:
                    index, position = _integer(block, position + 1, 0x7F)
                    fields.append(entries[_FIRST_DYNAMIC - 1 - index])
                elif octet & 0xE0 == 0x20:
                    position = self._resize(block, position, is_first=not fields)
                else:
                    field, position = self._literal(block, position, octet)
                    fields.append(field)
        except IndexError:
            raise HpackError("the block is cut short or names an entry that is not there") from None
        if is_over(self.max_list_size, fields, end):
            raise OversizedList(f"header list is over {self.max_list_size} bytes")
        return fields

    def _literal(self, block: bytes, position: int, octet: int) -> tuple[Field, int]:
        if octet == 0x80:
            raise HpackError("index 0")
        is_added = octet & 0x40
        most = 0x3F if is_added else 0x0F
        index = octet & most
        position += 1
        if index == most:
            index, position = _integer(block, position, most)
        if not index:
            name, position = _string(block, position)
        elif index < _FIRST_DYNAMIC:
            name = STATIC_TABLE[index - 1][0]
        else:
            name = self._entries[_FIRST_DYNAMIC - 1 - index][0]
        length = block[position]
        if length < 0x7F:  # a short text, as most are that come as literals
            start = position + 1
            position = start + length
            value = block[start:position]
            if position > len(block):
                raise HpackError("a string is cut short")
        else:
            value, position = _string(block, position)
        field = (name, value)
        if is_added:
            self._add(field)
        return field, position

    def _add(self, field: Field) -> None:
        self.changes += 1
        self._entries.append(field)
        if self._places is _STATIC_PLACES:
            self._places = _STATIC_PLACES.copy()
        self._places.insert(len(_STATIC_PLACES), field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        if self._size > self._limit:
            self._evict()

    def _resize(self, block: bytes, position: int, *, is_first: bool) -> int:
        size, position = block[position] & 0x1F, position + 1
        if size == 0x1F:
            size, position = _integer(block, position, 0x1F)
        if not is_first or size > _TABLE_SIZE:
            raise HpackError("a table size update that is too large or out of place")
        self.changes += 1
        self._limit = size
        self._evict()
        return position

    def _evict(self) -> None:
        while self._size > self._limit:
            name, value = self._entries.pop(0)
            self._places.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """RFC 7541 §5.1, behind a prefix that was full of ones: `value`."""
    shift = 0
    while True:
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
        shift += 7
        if value > _LARGEST_INTEGER or shift > 28:
            raise HpackError("an integer is too large")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """RFC 7541 §5.2."""
    octet = block[position]
    position += 1
    length = octet & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise HpackError("a string is cut short")
    text = block[position:end]
    if octet < 0x80:
        return text, end
    return _huffman.decode(text), end


class _Huffman:
    """Decodes the code of RFC 7541 appendix B; what an octet means in a state is worked out once.

    State and octet are one number, the state in its upper bits.
    """

    __slots__ = ("_next", "_texts")

    def __init__(self) -> None:
        self._texts: list[bytes | None] = [None] * (1 << 16)
        self._next = [0] * (1 << 16)

    def decode(self, code: bytes) -> bytes:
        """The text; raises `HpackError`."""
        texts, following = self._texts, self._next
        parts = []
        state = 0
        for octet in code:
            at = state << 8 | octet
            text = texts[at]
            if text is None:
                text = self._work_out(at)
            parts.append(text)
            state = following[at]
        if state not in _ENDS:
            raise HpackError("an incomplete Huffman code")
        return b"".join(parts)

    def _work_out(self, at: int) -> bytes:
        state, text = at >> 8, b""
        for nibble in (at >> 4 & 0xF, at & 0xF):
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + nibble]
            if flags & HUFFMAN_FAIL:
                raise HpackError("not a Huffman code")
            if flags & HUFFMAN_EMIT_SYMBOL:
                text += bytes((symbol,))
        self._next[at] = state
        self._texts[at] = text
        return text


_ENDS: Final = frozenset({0, *(state for state, flags, _symbol in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE)})
"""States in which a code may end."""
_huffman: Final = _Huffman()
