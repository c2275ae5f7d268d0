"""A message cut into its fields: those with a meaning by their keys, all others as they came.

Theory of operation
-------------------
`Message` is for reading whole messages, `peek` for a first look at one that may still be arriving: it follows
a path of field numbers and takes the first field it meets, which is where every writer puts it. A message
that has a single field twice means the last one to a parser; whoever relies on it calls `Message.value`,
which refuses such a message instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.protobuf.wire import LENGTH, VARINT, Malformed, cut, encode_field, key, read_varint

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ("Message", "peek", "replaced")


class Message:
    """The message that stands in `data` from `at` to `end`; raises `Malformed`.

    `unknown` are all fields whose key is not `known`, as they stand.
    """

    __slots__ = ("_found", "data", "unknown")

    def __init__(self, data: bytes, at: int, end: int, known: AbstractSet[int]) -> None:
        self.data = data
        self._found: dict[int, list[tuple[int, int, int]]] = {}
        found, unknown = self._found, []
        for tag, start, value, stop in cut(data, at, end):
            if tag not in known:
                unknown.append(data[start:stop])
            elif tag in found:
                found[tag].append((start, value, stop))
            else:
                found[tag] = [(start, value, stop)]
        self.unknown = b"".join(unknown)

    def fields(self, tag: int) -> list[bytes]:
        """The fields with this key as they stand, key and all."""
        found = self._found.get(tag)
        if found is None:
            return []
        data = self.data
        return [data[start:stop] for start, _, stop in found]

    def values(self, tag: int) -> list[bytes]:
        """The values of the fields with this key."""
        data = self.data
        return [data[value:stop] for _, value, stop in self._found.get(tag, ())]

    def places(self, tag: int) -> list[tuple[int, int]]:
        """Where the values of the fields with this key start and end."""
        return [(value, stop) for _, value, stop in self._found.get(tag, ())]

    def value(self, tag: int) -> bytes:
        """The value of the one field with this key, empty without; raises `Malformed` for several."""
        found = self._found.get(tag)
        if found is None:
            return b""
        if len(found) > 1:
            raise Malformed("a field that stands alone is repeated")
        _, value, stop = found[0]
        return self.data[value:stop]


def replaced(data: bytes, path: tuple[int, ...], value: bytes) -> bytes:
    """The message `data` with `value` at the end of `path`, in place of whatever is there.

    Raises `Malformed`. A message on the way that comes in several pieces is their concatenation, as it is to
    every parser.
    """
    tag = key(path[0])
    message = Message(data, 0, len(data), frozenset((tag,)))
    if len(path) > 1:
        value = replaced(b"".join(message.values(tag)), path[1:], value)
    return encode_field(tag, value) + message.unknown


def peek(data: bytes, at: int, path: tuple[int, ...]) -> bytes:
    """The value at the end of `path` (field numbers, outermost first) in the message at `at`.

    Empty when the bytes at hand do not hold it, or are no message.
    """
    end = len(data)
    if len(path) == 1 and end - at > 1 and data[at] == key(path[0]) and data[at + 1] < 0x80:
        start = at + 2  # nearly always: the first field, and a short one
        stop = start + data[at + 1]
        return data[start:stop] if stop <= end else b""
    for number in path:
        place = _first(data, at, end, key(number))
        if place is None:
            return b""
        at, end = place
    return data[at:end]


def _first(data: bytes, at: int, end: int, tag: int) -> tuple[int, int] | None:
    try:
        while at < end:
            found, at = (data[at], at + 1) if data[at] < 0x80 else read_varint(data, at, end)
            if found & 7 == VARINT:
                _, at = read_varint(data, at, end)
            elif found & 7 == LENGTH:
                size, at = read_varint(data, at, end)
                if found == tag:
                    return (at, at + size) if at + size <= end else None
                at += size
            else:
                return None  # no writer puts a fixed-width number before a name
    except Malformed:
        return None
    return None
