"""Requests of a known form are read by what differs, and understood as if they had been read as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs.forms import Forms
from proxy.batching.codecs.open_inference import OpenInferenceJson
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Prepared
    from proxy.exchange import Headers

CODEC = OpenInferenceJson()


def body(data: str = "[1,2]", *, shape: str = "[1,2]", ident: str = "", more: str = "") -> bytes:
    text = f'{{{ident}"inputs":[{{"name":"x","shape":{shape},"datatype":"FP64","data":{data}}}]{more}}}'
    return text.encode()


class Reader:
    """Counts what had to be read as a whole."""

    def __init__(self) -> None:
        self.whole: list[bytes] = []
        self.forms = Forms(self._prepare)

    def _prepare(self, text: bytes, headers: Headers) -> Prepared:
        self.whole.append(text)
        return CODEC.prepare(text, headers)

    def read(self, text: bytes) -> tuple[object, ...]:
        return said(self.forms.prepare(text, ()))


def said(prepared: Prepared) -> tuple[object, ...]:
    return prepared.key, prepared.items, prepared.payload, prepared.nbytes, prepared.frame, prepared.ident


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (body("[1,2]"), body("[-3.5e7,9007199254740993]")),
        (body("[[1,2],[3,4]]", shape="[2,2]"), body("[ [5, 6],\n[7, 8] ]", shape="[2,2]")),
        (body("[1]", shape="[1,1]"), body("[1e400]", shape="[1,1]")),
        (body(ident='"id":"a",'), body("[3,4]", ident='"id":"550e8400-e29b-41d4",')),
        (body(ident='"id": "a",'), body("[3,4]", ident='"id": "",')),
        (body(" [1,2]", more=',"parameters":{"k":1}'), body(" [5,6]", more=',"parameters":{"k":1}')),
        (body("[1,2] "), body("[5,6] ")),
    ],
)
def test_a_form_is_read_once(reader: Reader, first: bytes, second: bytes) -> None:
    assert reader.read(first) == said(CODEC.prepare(first, ()))
    assert reader.read(second) == said(CODEC.prepare(second, ()))
    assert reader.whole == [first]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (body(), body(shape="[1,3]", data="[1,2,3]")),
        (body(), body(more=',"parameters":{"k":1}')),
        (body(), body("[1,2 ]", more=" ")),
        (body(), body(ident='"id":"\\u0061",')),
        (body("[[1],[2]]", shape="[2,1]"), body("[[1,2]]", shape="[1,2]")),
        (body('["a","b"]').replace(b"FP64", b"BYTES"), body('["c","d"]').replace(b"FP64", b"BYTES")),
        (body(ident='"id":"é",'), body(ident='"id":"è",')),
        (body(more=',"id":"a"'), body(more=',"id":"b"')),
        (body(more=',"parameters":{"data":[1,2]}'), body(more=',"parameters":{"data":[3,4]}')),
        (body().replace(b'"data":', b'"data" :'), body("[3,4]").replace(b'"data":', b'"data" :')),
        (body().replace(b'"x"', b'"\\u0078"'), body("[3,4]").replace(b'"x"', b'"\\u0078"')),
        (
            body().replace(b'"x"', b'"%b"' % (b"x" * 8192)),
            body("[3,4]").replace(b'"x"', b'"%b"' % (b"x" * 8192)),
        ),
    ],
)
def test_what_differs_in_more_is_read_as_a_whole(reader: Reader, first: bytes, second: bytes) -> None:
    reader.read(first)
    assert reader.read(second) == said(CODEC.prepare(second, ()))
    assert reader.whole == [first, second]


@pytest.mark.parametrize(
    "data",
    [
        "[1]",
        "[1,2,3]",
        "[1,,2]",
        "[1,]",
        "[01,2]",
        "[1 2,3]",
        "[+1,2]",
        "[1,2]]",
        "[[1,2]",
        "[1,NaN]",
        "[1,2],3",
        "",
        "[",
        '"',
    ],
)
def test_an_array_of_another_shape_is_refused_as_ever(reader: Reader, data: str) -> None:
    reader.read(body())
    with pytest.raises(MergeRefused) as expected:
        CODEC.prepare(body(data), ())
    with pytest.raises(MergeRefused) as refusal:
        reader.read(body(data))
    assert refusal.value.why == expected.value.why


def test_an_empty_list_is_no_list_of_one(reader: Reader) -> None:
    reader.read(body("[[1],[2]]", shape="[2,1]"))
    with pytest.raises(MergeRefused):
        reader.read(body("[[1],[]]", shape="[2,1]"))


def test_an_array_in_the_parameters_is_not_taken_for_the_rows(reader: Reader) -> None:
    text = (
        '{"parameters":{"data":[1,2]},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data" :[1,2]}]}'
    )
    reader.read(text.encode())
    other = text.replace('{"data":[1,2]}', '{"data":[3,4]}').encode()
    assert reader.read(other) == said(CODEC.prepare(other, ()))


def test_several_tensors_are_read_as_a_whole_until_nobody_looks_for_their_form(reader: Reader) -> None:
    tensor = '{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}'
    text = f'{{"inputs":[{tensor},{tensor.replace("x", "y")}]}}'.encode()
    for _ in range(100):
        assert reader.read(text) == said(CODEC.prepare(text, ()))
    reader.read(body())
    reader.read(body())
    assert len(reader.whole) == 102


def test_refused_requests_are_surprises_too(reader: Reader) -> None:
    for _ in range(100):
        with pytest.raises(MergeRefused):
            reader.read(b"\x00" * 9000)
    reader.read(body())
    reader.read(body())
    assert len(reader.whole) == 102


def test_of_a_large_array_nothing_is_kept(reader: Reader) -> None:
    large = body(f"[{','.join('1' * 9000)}]", shape="[1,9000]")
    for _ in range(2):
        reader.read(large)
    assert reader.whole == [large, large]


def test_few_forms_are_kept(reader: Reader) -> None:
    texts = [body(f"[{','.join('1' * size)}]", shape=f"[1,{size}]") for size in range(1, 18)]
    for text in texts:
        reader.read(text)
    reader.read(texts[-1])
    assert len(reader.whole) == 17
    reader.read(texts[0])
    assert len(reader.whole) == 18
