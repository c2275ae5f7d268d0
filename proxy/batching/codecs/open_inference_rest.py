"""Open Inference (V2) REST, whatever form its tensors have.

Theory of operation
-------------------
Clients of one path may send tensors as JSON or as bytes, and the same client may do either. JSON is tried
first, since it is read in one go; a request that turns out to carry or ask for binary tensors is read again
by the codec for those. The two never share a batch: their frames differ, and with them their keys.

Of requests with JSON tensors the form is remembered (see `forms`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from proxy.batching.codecs.forms import Forms
from proxy.batching.codecs.open_inference import OpenInferenceJson
from proxy.batching.codecs.open_inference_binary import BinaryFrame, OpenInferenceBinary
from proxy.batching.codecs.open_inference_reading import read_answer
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.batching.codecs.base import Part, Prepare, Prepared
    from proxy.exchange import Headers

__all__ = ("OpenInference",)


class OpenInference:
    """Tensors as JSON or as bytes."""

    name = "open_inference"

    def __init__(self) -> None:
        self._json = OpenInferenceJson()
        self._binary = OpenInferenceBinary()

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """See `Codec.prepare`."""
        return self._prepare(self._json.prepare, body, headers)

    def remembering(self) -> Prepare:
        """See `Rememberer.remembering`."""
        return partial(self._prepare, Forms(self._json.prepare).prepare)

    def merge(self, members: Sequence[Prepared]) -> Part:
        """See `Codec.merge`."""
        return self._codec(members).merge(members)

    def split(self, answer: Part, members: Sequence[Prepared]) -> list[Part]:
        """See `Codec.split`."""
        return self._codec(members).split(answer, members)

    def read(self, body: bytes) -> object:
        """See `Reader.read`."""
        return read_answer(body)

    def cut(self, prepared: Prepared) -> list[Prepared]:
        """See `Cutter.cut`; binary tensors stay together."""
        return [] if isinstance(prepared.frame, BinaryFrame) else self._json.cut(prepared)

    def join(self, answers: Sequence[bytes]) -> bytes:
        """See `Cutter.join`."""
        return self._json.join(answers)

    def _prepare(self, prepare_json: Prepare, body: bytes, headers: Headers) -> Prepared:
        try:
            return prepare_json(body, headers)
        except MergeRefused as refusal:
            if refusal.why != "binary_tensors":
                raise
        return self._binary.prepare(body, headers)

    def _codec(self, members: Sequence[Prepared]) -> OpenInferenceJson | OpenInferenceBinary:
        return self._binary if isinstance(members[0].frame, BinaryFrame) else self._json
