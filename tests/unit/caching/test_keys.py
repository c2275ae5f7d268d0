from __future__ import annotations

import pytest

from proxy.caching.keys import Envelope, Question, body_refusal, item_keys, pack, whole_key
from proxy.exchange import Call

QUESTION = Question("model", "kserve-v1", "digits", None, b"g")
CALL = Call(b"POST", b"/v1/models/digits:predict", ())


def test_equal_questions_have_equal_keys() -> None:
    first, second = (pack(QUESTION, CALL, ((b"accept", b"*/*"),), ("form", 1)) for _ in range(2))
    assert item_keys(first, [(b"1",), (b"2",)]) == item_keys(second, [(b"1",), (b"2",)])
    assert whole_key(first, b"x") == whole_key(second, b"x")


@pytest.mark.parametrize("part", ["upstream", "protocol", "model", "version", "generation"])
def test_each_part_of_a_question_matters(part: str) -> None:
    other = Question(**(QUESTION._asdict() | {part: b"x" if part == "generation" else "x"}))
    assert pack(other, CALL, (), None) != pack(QUESTION, CALL, (), None)


@pytest.mark.parametrize(("part", "value"), [("method", b"PUT"), ("target", b"/v1?x"), ("scheme", b"https")])
def test_each_part_of_a_call_matters(part: str, value: bytes) -> None:
    other = Call(CALL.method, CALL.target, ())
    setattr(other, part, value)
    assert pack(QUESTION, other, (), None) != pack(QUESTION, CALL, (), None)


def test_parts_cannot_run_into_each_other() -> None:
    assert item_keys(b"", [(b"ab", b"c")]) != item_keys(b"", [(b"a", b"bc")])
    assert pack(QUESTION, CALL, ((b"a", b"b"),), None) != pack(QUESTION, CALL, ((b"ab", b""),), None)


def test_a_form_of_anything_but_plain_values_is_refused() -> None:
    with pytest.raises(TypeError):
        pack(QUESTION, CALL, (), object())


@pytest.mark.parametrize(
    "body", [b'{"parameters":{"sequence_id":1}}', b'{"shared_memory_region":"r"}', rb'{"\u0073equence_id":1}']
)
def test_a_body_whose_input_is_elsewhere_stands_for_nothing(body: bytes) -> None:
    assert body_refusal(body) == "input_elsewhere"


def test_a_plain_body_stands_for_its_question() -> None:
    assert body_refusal(b'{"input":"a sequence of shared memories"}') is None


@pytest.mark.parametrize(
    ("answer", "bare"),
    [
        (b'{"id":"a","outputs":[1.0]}', b'{"outputs":[1.0]}'),
        (b'{"outputs": [1.0 , 2],"id" : "a" }', b'{"outputs":[1.0 , 2]}'),
        (b'{"outputs": [1.0]} \n', b'{"outputs": [1.0]}'),
        (b'{"id":"a"}', b"{}"),
        (b"{ }", b"{}"),
        (b"[1]", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_an_id_is_taken_out(answer: bytes, bare: bytes | None) -> None:
    assert Envelope("id").without_id(answer) == bare


@pytest.mark.parametrize(
    ("bare", "ident", "answer"),
    [
        (b'{"outputs":[1]}', b'"b"', b'{"outputs":[1],"id":"b"}'),
        (b"{}", b'"b"', b'{"id":"b"}'),
        (b'{"outputs":[1]}', b"", b'{"outputs":[1]}'),
    ],
)
def test_each_callers_own_id_is_put_back(bare: bytes, ident: bytes, answer: bytes) -> None:
    assert Envelope("id").with_id(bare, ident) == answer


def test_protocols_without_an_id_are_left_alone() -> None:
    assert Envelope().without_id(b"anything") == b"anything"
    assert Envelope().with_id(b"anything", b'"b"') == b"anything"
