"""Open Inference tensors, as JSON and as bytes: every member gets back the rows that it sent, and its own id.

The backend of these tests answers each input as an output of the same name. It is written against the
protocol with other means than the codec: numbers stay the text they were, binary tensors are cut by
arithmetic of its own.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs import CODECS
from proxy.errors import SplitMismatch
from tests.support.literal_json import Literal, field, loads

CODEC = CODECS["open_inference"]
WIDTHS = {"FP32": 4, "INT64": 8, "BOOL": 1, "BF16": 2}
NUMBERS = ("-0.0", "1.10", "1e400", "9007199254740993", "7", "-1E-7")
TEXTS = ('"a"', '"\\"[,]"', '"é\\u0041"', '""', '"data"')


@dataclass(frozen=True)
class Spec:
    """One input as all members send it."""

    name: str
    datatype: str
    row_shape: tuple[int, ...]
    form: str
    extra: str


@dataclass(frozen=True)
class Tensor:
    """One input of one member: JSON elements as text, or bytes for each element."""

    spec: Spec
    rows: int
    elements: tuple[str, ...] | tuple[bytes, ...]


specs = st.builds(
    Spec,
    st.sampled_from(("x", 'quo"te', "é")),
    st.sampled_from(("FP32", "BYTES", "BOOL")),
    st.lists(st.integers(1, 3), max_size=2).map(tuple),
    st.sampled_from(("flat", "nested")),
    st.sampled_from(("", ',"parameters":{"content_type":"np"}')),
)
binary_specs = st.builds(
    Spec,
    st.sampled_from(("b", "c")),
    st.sampled_from((*WIDTHS, "BYTES")),
    st.lists(st.integers(1, 3), max_size=2).map(tuple),
    st.just("binary"),
    st.sampled_from(("", ',"k":1.0')),
)


def element_of(spec: Spec) -> st.SearchStrategy[object]:
    if spec.form == "binary":
        width = WIDTHS.get(spec.datatype)
        return st.binary(max_size=5) if width is None else st.binary(min_size=width, max_size=width)
    return st.sampled_from({"FP32": NUMBERS, "BYTES": TEXTS, "BOOL": ("true", "false")}[spec.datatype])


@st.composite
def requests(draw: st.DrawFn, kinds: st.SearchStrategy[Spec]) -> list[tuple[str | None, list[Tensor]]]:
    """Two to four members with the same inputs and different rows; some have an id."""
    shared = draw(st.lists(kinds, min_size=1, max_size=3, unique_by=lambda spec: spec.name))
    members = []
    for _ in range(draw(st.integers(2, 4))):
        rows = draw(st.integers(1, 3))
        tensors = []
        for spec in shared:
            count = rows * math.prod(spec.row_shape)
            elements = draw(st.lists(element_of(spec), min_size=count, max_size=count))
            tensors.append(Tensor(spec, rows, tuple(elements)))  # type: ignore[arg-type]
        members.append((draw(st.sampled_from((None, "one", 'q"\\', "é"))), tensors))
    return members


def nest(elements: list[str], shape: tuple[int, ...]) -> str:
    if not shape:
        return elements[0]
    size = len(elements) // shape[0]
    parts = [nest(elements[index * size : (index + 1) * size], shape[1:]) for index in range(shape[0])]
    return f"[{', '.join(parts)}]"


def blob(tensor: Tensor) -> bytes:
    parts = [element for element in tensor.elements if isinstance(element, bytes)]
    if tensor.spec.datatype == "BYTES":
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return b"".join(parts)


def body_of(ident: str | None, tensors: list[Tensor]) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    inputs, blobs = [], []
    for tensor in tensors:
        spec = tensor.spec
        shape = (tensor.rows, *spec.row_shape)
        head = f'"name":{json.dumps(spec.name)},"shape":{list(shape)},"datatype":"{spec.datatype}"'
        if spec.form == "binary":
            blobs.append(blob(tensor))
            inputs.append(f'{{{head},"parameters":{{"binary_data_size":{len(blobs[-1])}{spec.extra}}}}}')
        else:
            texts = [element for element in tensor.elements if isinstance(element, str)]
            data = nest(texts, shape if spec.form == "nested" else (len(texts),))
            inputs.append(f'{{{head}{spec.extra},"data": {data}}}')
    own = f'"id":{json.dumps(ident)},' if ident is not None else ""
    head_bytes = f'{{{own}"inputs":[{",".join(inputs)}],"outputs":[{{"name":"y"}}]}}'.encode()
    if not blobs:
        return head_bytes, ()
    return head_bytes + b"".join(blobs), ((b"inference-header-content-length", b"%d" % len(head_bytes)),)


def length_of(headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> int:
    return next((int(value) for name, value in headers if name.lower().startswith(b"inference")), len(body))


def echo(
    body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """Each input as an output: the same head with another key, and the same bytes behind it."""
    size = length_of(headers, body)
    head = body[:size].replace(b'{"inputs":', b'{"model_name":"m","parameters":{"p":1.0},"outputs":', 1)
    cut = head.rindex(b',"outputs":[{"name":"y"}]')
    head = head[:cut] + b"}"
    return head + body[size:], ((b"Inference-Header-Content-Length", b"%d" % len(head)),) if size < len(
        body
    ) else ()


def flat(value: object) -> list[object]:
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, list) else [value]


def received(part: tuple[bytes, tuple[tuple[bytes, bytes], ...]]) -> tuple[object, list[object]]:
    """The id and every output's (name, shape, content) of one member's answer."""
    body, headers = part
    size = length_of(headers, body)
    head, rest = loads(body[:size]), body[size:]
    found: list[object] = []
    for output in field(head, "outputs"):  # type: ignore[attr-defined]
        names = [key for key, _ in output]
        shape = [int(size.text) for size in field(output, "shape")]  # type: ignore[attr-defined]
        if "data" in names:
            content: object = flat(field(output, "data"))
        else:
            size_of_blob = int(field(field(output, "parameters"), "binary_data_size").text)  # type: ignore[attr-defined]
            content, rest = rest[:size_of_blob], rest[size_of_blob:]
        found.append((field(output, "name"), shape, content))
    assert not rest
    assert isinstance(head, tuple)
    return dict(head).get("id"), found


def sent(ident: str | None, tensors: list[Tensor]) -> tuple[object, list[object]]:
    found: list[object] = []
    for tensor in tensors:
        content: object = blob(tensor)
        if tensor.spec.form != "binary":
            content = [loads(element.encode()) for element in tensor.elements if isinstance(element, str)]
        found.append((tensor.spec.name, [tensor.rows, *tensor.spec.row_shape], content))
    return ident, found


any_requests = st.one_of(requests(specs), requests(binary_specs), requests(st.one_of(specs, binary_specs)))


@given(any_requests)
def test_everybody_gets_back_what_it_sent(members: list[tuple[str | None, list[Tensor]]]) -> None:
    found = [CODEC.prepare(*body_of(ident, tensors)) for ident, tensors in members]
    assert len({one.key for one in found}) == 1
    parts = CODEC.split(echo(*CODEC.merge(found)), found)
    assert [received(part) for part in parts] == [sent(ident, tensors) for ident, tensors in members]


@given(any_requests)
def test_an_answer_with_a_row_too_few_or_too_many_is_never_cut(
    members: list[tuple[str | None, list[Tensor]]],
) -> None:
    found = [CODEC.prepare(*body_of(ident, tensors)) for ident, tensors in members]
    for wrong in (found[:-1], [*found, found[0]]):
        with pytest.raises(SplitMismatch):
            CODEC.split(echo(*CODEC.merge(wrong)), found)


@given(requests(binary_specs), st.integers(1, 9))
def test_an_answer_that_broke_off_is_never_cut(
    members: list[tuple[str | None, list[Tensor]]], missing: int
) -> None:
    found = [CODEC.prepare(*body_of(ident, tensors)) for ident, tensors in members]
    body, headers = echo(*CODEC.merge(found))
    with pytest.raises(SplitMismatch):
        CODEC.split((body[:-missing], headers), found)


def test_literals_are_told_apart() -> None:
    assert loads(b"1.10") == Literal("1.10") != loads(b"1.1")
