"""TorchServe by example."""

from __future__ import annotations

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, refusal, split, uncut

TS = "torchserve"
ONE, TWO = b' [{"data":"a"}]', b'[{"data":"b"},{"data":"c"}]'


def test_lists_of_objects_are_joined_and_cut() -> None:
    assert merged(TS, ONE, TWO) == b'[{"data":"a"},{"data":"b"},{"data":"c"}]'
    assert split(TS, b"[1, NaN, 3]", ONE, TWO) == [b"[1]", b"[NaN,3]"]


def test_the_envelope_is_joined_and_cut() -> None:
    one, two = b'{"instances":[{"data":"a"}]}', b'{"instances":[{"data":"b"}]}'
    assert merged(TS, one, two) == b'{"instances":[{"data":"a"},{"data":"b"}]}'
    assert split(TS, b'{"predictions":[1,2]}', one, two) == [b'{"predictions":[1]}', b'{"predictions":[2]}']
    assert key_of(TS, one) != key_of(TS, ONE)


@pytest.mark.parametrize("answer", [b"[1,2]", b'{"code":500}', b"", b'"abc"'])
def test_an_answer_that_is_not_one_part_for_each_is_not_cut(answer: bytes) -> None:
    assert uncut(TS, answer, ONE, TWO)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"[1,2,3]", "form"),
        (b"[[1,2],[3,4]]", "form"),
        (b'[{"a":1},2]', "form"),
        (b"[]", "empty"),
        (b"[{", "form"),
        (b'[{"a":"\xff"}]', "not_utf8"),
        (b'[{"a":1},{"b":1}]', "ragged_rows"),
        (b"\x89PNG", "not_json"),
    ],
)
def test_what_may_be_one_item_is_refused(body: bytes, why: str) -> None:
    assert refusal(TS, body) == why
