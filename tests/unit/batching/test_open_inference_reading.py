"""Open Inference answers, read for comparison."""

from __future__ import annotations

import math
import struct

import pytest

from proxy.batching.codecs import CODECS
from proxy.batching.codecs.base import Reader
from proxy.batching.codecs.open_inference_reading import read_answer
from proxy.batching.verify import is_same

OUTPUT = b'{"name":"y","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}'
TEXT = b'{"name":"t","shape":[1],"datatype":"BYTES","data":["\xc3\xa9"]}'


def answer(*numbers: float, ident: bytes = b"") -> bytes:
    return b'{%b"outputs":[%b,%b]}' % (ident, TEXT, OUTPUT) + struct.pack(f"<{len(numbers)}f", *numbers)


def test_the_codec_reads_its_answers() -> None:
    codec = CODECS["open_inference"]
    assert isinstance(codec, Reader)
    assert codec.read(b'{"outputs":[]}') == {"outputs": []}
    assert codec.read(answer(1.0, 2.0)) == read_answer(answer(1.0, 2.0))


def test_binary_tensors_are_compared_as_numbers() -> None:
    one, other = answer(1.0, math.nan), b" " + answer(1.000001, math.nan, ident=b'"id":"a",')
    assert is_same(one, other, read_answer)
    assert not is_same(one, answer(1.1, math.nan), read_answer)
    assert not is_same(answer(2.0, 1.0), answer(1.0, 2.0), read_answer)


def test_json_that_the_fast_reader_refuses() -> None:
    assert is_same(b'{"outputs":[1e400,NaN]}', b'{"outputs": [1e400, NaN]} ', read_answer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"[1] 2",
        b"[" * 100_000,
        answer(1.0),
        answer(1.0, 2.0, 3.0),
        answer(1.0, 2.0).replace(b"FP32", b"FP99"),
        answer(1.0, 2.0).replace(b'"datatype"', b'"kind"'),
        answer(1.0, 2.0).replace(b'_size":8', b'_size":"8"'),
    ],
)
def test_what_is_no_answer_stays_as_it_is(body: bytes) -> None:
    assert read_answer(body) is body
