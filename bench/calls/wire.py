"""What both ends of a measurement share: the head of a call as common clients write it, and messages.

Clients differ in what they do with fields that have another value in each call. `repeated` has none, as
load tools and clients without deadlines or tracing. `literal` leaves them out of the dynamic table, as
grpcio does. `indexed` enters each of them, as grpc-go and grpc-java do: no block is ever like an earlier one,
and every index moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from hpack import Encoder, HeaderTuple, NeverIndexedHeaderTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("CYCLE", "QUESTION", "SHAPES", "Shape", "blocks", "message")

Shape = Literal["repeated", "literal", "indexed"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
CYCLE: Final = 2000
"""Calls of one connection until its blocks begin again, with an empty table."""

_FORGET: Final = b"\x20\x3f\xe1\x1f"  # table size 0, then 4096
_FIXED: Final = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    (":authority", "model.example:8001"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python/1.80.0 grpc-c/52.0.0 (linux; chttp2)"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
)


_NAMED: Final = b"\x0a\x05model\x7a\x37" + bytes(55)
QUESTION: Final = b"\0" + len(_NAMED).to_bytes(4, "big") + _NAMED
"""One message of 64 bytes, with its prefix, that names its model first, as an inference request does."""


def message(size: int) -> bytes:
    """One gRPC message of `size` bytes, with its prefix: to a health probe it says SERVING."""
    padding = size - 4 if size < 128 else size - 6
    length = (
        bytes((padding,))
        if padding < 128
        else bytes((padding & 0x7F | 0x80, padding >> 7 & 0x7F | 0x80, padding >> 14))
    )
    body = b"\x08\x01\x7a" + length + bytes(padding)
    return b"\0" + len(body).to_bytes(4, "big") + body


def blocks(shape: Shape, connection: int = 0) -> list[bytes]:
    """The header blocks of `CYCLE` successive calls on one connection; the first one empties the table.

    What differs from call to call differs from connection to connection too.
    """
    encoder = Encoder()
    first = connection * CYCLE
    return [
        (b"" if number > first else _FORGET)
        + encoder.encode(_fields(shape, number), huffman=shape == "indexed")
        for number in range(first, first + CYCLE)
    ]


def _fields(shape: Shape, number: int) -> Iterator[HeaderTuple]:
    for name, value in _FIXED:
        yield HeaderTuple(name, value)
    if shape != "repeated":
        kind = HeaderTuple if shape == "indexed" else NeverIndexedHeaderTuple
        yield kind("grpc-timeout", f"{9_999_999 - 37 * number}u")
        yield kind(
            "traceparent",
            f"00-{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}-00f067aa0ba902b7-01",
        )
