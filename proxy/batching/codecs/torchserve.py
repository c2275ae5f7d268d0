"""TorchServe: ``POST /predictions/{m}`` with a list of objects, or with its JSON envelope.

Theory of operation
-------------------
What a body means to TorchServe is the handler's own affair, and most bodies (an image, a text, a vector)
are one item whatever they look like: ``[1, 2, 3]`` may be three items or one. Two forms say that they are
many:

* the JSON envelope, ``{"instances": […]}`` answered by ``{"predictions": […]}``, as in `rows`;
* a list whose elements are all objects, answered by a list of as many elements.

Everything else is not merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.batching.codecs.base import Prepared
from proxy.batching.codecs.json_bytes import check_text, pieces, rows_signature, split_text
from proxy.batching.codecs.objects import array, check_count, elements, total_of
from proxy.batching.codecs.rows import RowCodec
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Part
    from proxy.exchange import Headers

__all__ = ("TorchServe",)

_LIST = "list"


class TorchServe:
    """Lists of objects, bare or in the JSON envelope."""

    name = "torchserve"

    def __init__(self) -> None:
        self._envelope = RowCodec("torchserve_envelope", "instances", ("predictions",))

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        if not body.lstrip().startswith(b"["):
            return self._envelope.prepare(body, headers)
        rows = elements(body)
        if not all(bytes(row).startswith(b"{") for row in rows):
            raise MergeRefused("form")
        check_text(body)
        payload = b",".join(rows)
        return Prepared((_LIST, rows_signature(rows, payload)), len(rows), (payload,), _LIST)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        if members[0].frame != _LIST:
            return self._envelope.merge(members)
        return b"[%b]" % b",".join([member.payload[0] for member in members]), ()

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        if members[0].frame != _LIST:
            return self._envelope.split(answer, members)
        return [(body, ()) for body in split_text(_cut, answer[0], members)]


def _cut(body: bytes, members: Sequence[Prepared]) -> list[bytes]:
    rows = array(body)
    check_count(rows, total_of(members))
    return [b"[%b]" % piece for piece in pieces(rows, members)]
