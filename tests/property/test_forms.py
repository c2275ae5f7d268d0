"""A request read by its form says what it says when it is read as a whole, whatever was read before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs.forms import Forms
from proxy.batching.codecs.open_inference import OpenInferenceJson
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Prepare

PLAIN = OpenInferenceJson().prepare
BODIES = (
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}]}',
    b'{"id":"a1","inputs":[{"name":"x","shape":[2,1],"datatype":"FP64","data":[[1.5],[-2e3]]}],"outputs":[]}',
    b'{"parameters":{"data":[1,2]},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data" :[1,2]}]}',
    b'{"inputs": [{"name": "data", "shape": [1], "datatype": "INT64", "data": [7]}], "id": "q"}',
)
PIECES = (
    b'"', b"[", b"]", b"[]", b",", b":", b"{", b"}", b"0", b"1", b"-", b".5", b"e", b" ", b"\\", b"a", b"\xff",
    b'"data":', b'"data":[1,2]', b'"id":"b",', b"[3,4]", b"[[5],[6]]", b"1,2", b"true",
)  # fmt: skip

changes = st.lists(
    st.tuples(st.integers(0, 110), st.integers(0, 12), st.sampled_from(PIECES)), min_size=0, max_size=2
)
bodies = st.tuples(st.sampled_from(BODIES), changes).map(lambda drawn: _changed(*drawn))


def _changed(body: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in edits:
        body = body[:at] + piece + body[at + length :]
    return body


def _said(prepare: Prepare, body: bytes) -> object:
    try:
        found = prepare(body, ())
    except MergeRefused as refusal:
        return refusal.why
    return found.key, found.items, found.payload, found.frame, found.ident


@given(st.lists(bodies, min_size=2, max_size=6))
def test_a_form_is_no_guess(texts: list[bytes]) -> None:
    forms = Forms(PLAIN)
    for body in (*BODIES, *texts, *BODIES):
        assert _said(forms.prepare, body) == _said(PLAIN, body)
