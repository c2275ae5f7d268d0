"""The bodies of gRPC calls that may be merged: one plain protobuf message each, on both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.errors import MergeRefused, SplitMismatch
from proxy.exchange import field
from proxy.protobuf.framing import NotPlain, message_at

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("message_of_answer", "message_of_call")

_PROTOBUF: Final = frozenset((b"application/grpc", b"application/grpc+proto"))


def message_of_call(body: bytes, headers: Headers) -> int:
    """Where the message of a call starts; raises `MergeRefused`."""
    if field(headers, b"content-type") not in _PROTOBUF:
        raise MergeRefused("form")
    try:
        return message_at(body)
    except NotPlain as error:
        raise MergeRefused(error.why) from None


def message_of_answer(body: bytes) -> int:
    """Where the message of an answer starts; raises `SplitMismatch`."""
    try:
        return message_at(body)
    except NotPlain as error:
        raise SplitMismatch(f"the answer is not one plain message: {error}") from None
