"""gRPC's length prefix: a flag (is the message compressed?), four bytes of length, the message.

Theory of operation
-------------------
The body of a unary call is one such frame. A body that holds anything else (a compressed message, more than
one, part of one) is left to whoever speaks the whole protocol: for those, `message_at` raises. `size_of` is
for bodies that are still arriving: it tells from the first bytes how many there will be if there is to be one
message only.
"""

from __future__ import annotations

from typing import Final

__all__ = ("PREFIX", "NotPlain", "frame", "message_at", "size_of")

PREFIX: Final = 5
"""Bytes before a message."""


class NotPlain(ValueError):
    """The body is not one uncompressed message; `why` is a slug."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def frame(message: bytes) -> bytes:
    """The body that carries `message` and nothing else, uncompressed."""
    return b"\x00%b%b" % (len(message).to_bytes(4, "big"), message)


def size_of(start: bytes) -> int | None:
    """How long a body that begins with `start` is if it carries one message; None: too little to tell."""
    if len(start) < PREFIX:
        return None
    return PREFIX + int.from_bytes(start[1:PREFIX], "big")


def message_at(body: bytes) -> int:
    """Where the one plain message in `body` starts (it ends with the body); raises `NotPlain`."""
    if size_of(body) != len(body):
        raise NotPlain("framing")
    if body[0]:
        raise NotPlain("compressed")
    return PREFIX
