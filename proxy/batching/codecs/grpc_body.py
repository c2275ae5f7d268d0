"""Codecs of gRPC calls: one plain protobuf message each, on both ways.

Theory of operation
-------------------
What gRPC puts around a message (a flag and a length) is checked and written here; a compressed message is not
merged, and an answer in several is not cut. What stands in the messages is the business of each protocol,
which cuts them into fields and refuses by a ValueError what it cannot read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.errors import MergeRefused, SplitMismatch
from proxy.exchange import field
from proxy.protobuf.framing import NotPlain, frame, message_at
from proxy.protobuf.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy.batching.codecs.base import Part, Prepared
    from proxy.exchange import Headers

__all__ = ("GrpcCodec", "Messages")

_PROTOBUF: Final = frozenset((b"application/grpc", b"application/grpc+proto"))


class Messages(NamedTuple):
    """What one protocol knows of its messages: their known fields, and how they are read, written and cut.

    * ``read`` says what a request says.
    * ``join`` gives a request's fields, from `Prepared.frame`, the number of items and each input's rows.
    * ``cut`` gives each member's message from the answer to all.
    * ``tell`` says what an answer says, as `Reader.read` does.
    """

    request_fields: frozenset[int]
    answer_fields: frozenset[int]
    read: Callable[[Message], Prepared]
    join: Callable[[Any, int, Sequence[bytes]], Iterable[bytes]]
    cut: Callable[[Message, Sequence[Prepared]], list[bytes]]
    tell: Callable[[Message], object]


class GrpcCodec:
    """The rules that all share."""

    def __init__(self, name: str, messages: Messages) -> None:
        self.name = name
        self._messages = messages

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Rows of every input, proved to fill their shapes; see `Codec.prepare`."""
        if field(headers, b"content-type") not in _PROTOBUF:
            raise MergeRefused("form")
        messages = self._messages
        try:
            return messages.read(Message(body, message_at(body), len(body), messages.request_fields))
        except NotPlain as error:
            raise MergeRefused(error.why) from None
        except ValueError:
            raise MergeRefused("form") from None

    def merge(self, members: Sequence[Prepared]) -> Part:
        """One request with the rows of all; see `Codec.merge`."""
        items = sum(member.items for member in members)
        columns = [b"".join(rows) for rows in zip(*[member.payload for member in members], strict=True)]
        return frame(b"".join(self._messages.join(members[0].frame, items, columns))), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """The rows of each member; see `Codec.split`."""
        try:
            return [(frame(part), ()) for part in self._messages.cut(self._answer(answer[0]), members)]
        except ValueError as error:
            raise SplitMismatch(f"the answer is not what was asked for: {error}") from None

    def read(self, body: bytes) -> object:
        """What an answer says; see `Reader.read`."""
        try:
            return self._messages.tell(self._answer(body))
        except (ValueError, SplitMismatch):
            return body

    def _answer(self, body: bytes) -> Message:
        return Message(body, message_at(body), len(body), self._messages.answer_fields)
