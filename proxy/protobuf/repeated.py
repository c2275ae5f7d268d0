"""Repeated fields as runs of bytes that can be joined and cut.

Theory of operation
-------------------
Two rows of one repeated field are joined by joining their bytes. What the bytes are depends on the type:

* Numbers of a fixed width are packed one after the other.
* Other numbers are packed varints, whose ends have to be looked for.
* ``bytes`` and strings cannot be packed: each element is a field of its own, with key and length.

The *payload* of the first two is what stands behind the field's key and length, of the third all the fields.
Numbers from a writer that does not pack them have another key; `Repeated` does not know them.
"""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from proxy.protobuf.wire import (
    LENGTH,
    count_varints,
    cut,
    cut_varints,
    encode_field,
    key,
    read_varints,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.protobuf.message import Message

__all__ = ("Repeated",)

_FORMATS = {4: "f", 8: "d"}


class Repeated(NamedTuple):
    """One repeated field: its `number`, and the `width` of a packed element (None: varints).

    `is_bytes` says that its elements are not packed.
    """

    number: int
    width: int | None = None
    is_bytes: bool = False
    is_signed: bool = True

    @property
    def tag(self) -> int:
        """The field's key."""
        return key(self.number, LENGTH)

    def payload(self, message: Message) -> bytes:
        """All elements in `message`."""
        return b"".join(message.fields(self.tag) if self.is_bytes else message.values(self.tag))

    def field(self, payload: bytes) -> bytes:
        """The field or fields that hold these elements."""
        return payload if self.is_bytes or not payload else encode_field(self.tag, payload)

    def count(self, payload: bytes) -> int:
        """How many elements there are; -1 when the last is cut short."""
        if self.is_bytes:
            return len(cut(payload))
        if self.width is None:
            return count_varints(payload)
        return len(payload) // self.width if len(payload) % self.width == 0 else -1

    def cut(self, payload: bytes, counts: Sequence[int]) -> list[bytes]:
        """The payloads of so many elements each; `payload` has exactly as many as all of them."""
        if self.width is None and not self.is_bytes:
            return cut_varints(payload, counts)
        totals = accumulate(counts, initial=0)
        if self.width is not None:
            ends = [total * self.width for total in totals]
        else:
            stops = [0, *[stop for *_, stop in cut(payload)]]
            ends = [stops[total] for total in totals]
        return [payload[start:end] for start, end in pairwise(ends)]

    def values(self, payload: bytes) -> list[object]:
        """The elements: int, float or bytes."""
        if self.is_bytes:
            return [payload[value:stop] for _, _, value, stop in cut(payload)]
        if self.width is not None:
            count = len(payload) // self.width
            return list(struct.unpack(f"<{count}{_FORMATS[self.width]}", payload))
        numbers = read_varints(payload, 0, len(payload))
        return list(map(signed, numbers) if self.is_signed else numbers)
