"""What an Open Inference answer says, its binary tensors included, so that two answers can be compared.

Theory of operation
-------------------
An answer with binary tensors is a JSON document with bytes behind it. Where the document ends stands in a
header field, but it can be seen as well: the document is read as far as it goes, and the rest belongs, in
order, to the outputs that have a ``binary_data_size``. Their elements take the place of ``data``, so that
numbers are compared as numbers. Texts are then read byte by byte, which tells as well whether they differ.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from proxy.batching.codecs.json_bytes import NOT_JSON
from proxy.protobuf.datatypes import decode

__all__ = ("read_answer",)

_document: Final = json.JSONDecoder().raw_decode


def read_answer(body: bytes) -> object:
    """The answer `body` as dicts, lists, numbers and bytes; `body` itself when it is none."""
    try:
        return msgspec.json.decode(body)
    except NOT_JSON:
        pass
    text = body.decode("latin-1")
    try:
        answer, end = _document(text, len(text) - len(text.lstrip()))
        return _filled(answer, body[end:])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body


def _filled(answer: Any, blobs: bytes) -> object:  # noqa: ANN401  whatever the document said; misfits raise
    """The answer with the elements of its binary outputs."""
    if not blobs.strip():
        return answer
    at = 0
    for output in answer["outputs"]:
        parameters = output.get("parameters") or {}
        size = parameters.pop("binary_data_size", None)
        if size is not None:
            output["data"] = decode(output["datatype"], blobs[at : at + size])
            at += size
    if at != len(blobs):
        raise ValueError("bytes that belong to no output")
    return answer
