"""What a codec owes the lane: how calls of one protocol become one call, and its answer becomes theirs again.

Theory of operation
-------------------
`prepare` reads one request body and says what must be equal for two of them to share a call (`Prepared.key`),
how many items it holds and where its payload is. It refuses whatever it cannot prove safe: a refused call is
forwarded as it came, which is always right, so a codec never guesses. `merge` joins the payloads of members
with equal keys; `split` cuts the answer into one part for each member, in the order of the members, and
raises `SplitMismatch` unless the answer provably holds one item for each item asked.

Codecs splice bytes. A number that a client wrote is never parsed and printed again, because a decoder that
goes through doubles turns 2^53+1 into 2^53, 1e400 into an error and 1.10 into 1.1. What is parsed is only the
frame around the payload.

`merge` and `split` speak in `Part`s: a body, and the header fields that describe this body and no other (the
binary tensor extension has one). Everything else about headers is the lane's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from proxy.exchange import Headers

__all__ = ("Codec", "Cutter", "Part", "Prepare", "Prepared", "Reader", "Rememberer")

Part = tuple[bytes, "Headers"]
"""A body and the header fields that belong to it alone (they replace fields of the same name)."""


class Prepared:
    """One call as its codec understood it.

    * ``key``: equal for calls that may share an upstream call.
    * ``items``: how many items the call asks about, at least 1.
    * ``payload``: the bytes to splice, one entry for each place that grows with the items; ``nbytes`` in all.
    * ``frame``: what is the same for all members of a batch; the codec's own.
    * ``ident``: the caller's own id as it is to be echoed, or ``b""``.
    * ``manner``: how the caller's own answer is put, where members of a batch may differ in that, or ``b""``.
    * ``model``: the model, where the body names it and not the path.
    * ``weight``: how much of the batch's totals this call stands for, where the answer has totals.
    """

    __slots__ = ("frame", "ident", "items", "key", "manner", "model", "nbytes", "payload", "weight")

    frame: Any

    def __init__(
        self,
        key: Hashable,
        items: int,
        payload: tuple[bytes, ...],
        frame: object = None,
        ident: bytes = b"",
        *,
        manner: bytes = b"",
        model: str = "",
        weight: int = 0,
    ) -> None:
        self.key = key
        self.items = items
        self.payload = payload
        self.nbytes = len(payload[0]) if len(payload) == 1 else sum(map(len, payload))
        self.frame = frame
        self.ident = ident
        self.manner = manner
        self.model = model
        self.weight = weight


Prepare = Callable[[bytes, "Headers"], Prepared]
"""Understands a request; see `Codec.prepare`."""


class Codec(Protocol):
    """The merge and split rules of one protocol form. Pure and stateless."""

    name: str

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """Understand one request; raises `MergeRefused` when merging it cannot be proved safe."""

    def merge(self, members: Sequence[Prepared]) -> Part:
        """One request for all `members` (two or more, equal keys)."""

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """One answer for each of `members`, in order; raises `SplitMismatch`."""


class Cutter(Codec, Protocol):
    """A codec that can also take a single caller's request apart by item, and put the answers together."""

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """One request for each item of `prepared`, with its key and without an id; none if it stays whole."""

    def join(self, answers: Sequence[bytes]) -> bytes:
        """One answer, without an id, from answers to one item each; raises `SplitMismatch`."""


@runtime_checkable
class Reader(Codec, Protocol):
    """A codec whose answers may be no JSON: it says what they say, so that two can be compared."""

    def read(self, body: bytes) -> object:
        """The answer `body` as dicts, lists, numbers and bytes, without an id; `body` if it is none."""


@runtime_checkable
class Rememberer(Codec, Protocol):
    """A codec that reads requests faster when it may remember those that came with the same head."""

    def remembering(self) -> Prepare:
        """A `prepare` for requests with one head; whoever keeps it keeps what it remembers."""
