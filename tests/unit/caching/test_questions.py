from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from proxy.batching.codecs import CODECS
from proxy.caching import questions
from proxy.caching.questions import Inquiry, Interpreter
from proxy.errors import MergeRefused
from proxy.exchange import Call, Headers
from proxy.routing.policy import Route
from proxy.routing.table import Match
from tests.support.batching import JSON_FIELDS, predict_call
from tests.support.caching import INFER, METADATA, PREDICT, field_rules, infer_call, policy

if TYPE_CHECKING:
    from proxy.caching.policy import CachePolicy

OPENAI = Match(METADATA.route)
V2 = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1.5]}]}'


def an_interpreter() -> Interpreter:
    return Interpreter(field_rules, CODECS, {"open_inference": "id"})


def asked(
    call: Call,
    subject: Match = PREDICT,
    rule: CachePolicy | None = None,
    generation: bytes = b"",
    interpreter: Interpreter | None = None,
) -> Inquiry:
    assert isinstance(call.body, bytes)
    interpreter = interpreter or an_interpreter()
    return interpreter.read(call, call.body, subject, rule or policy(), generation)


def with_fields(*headers: tuple[bytes, bytes]) -> Call:
    return predict_call(1.5, headers=(*JSON_FIELDS, *headers))


def test_the_id_is_left_out_and_told() -> None:
    first, second, without = (asked(infer_call([1.5], ident=ident), INFER) for ident in ("a", "b", ""))
    assert first.keys == second.keys == without.keys
    assert (first.ident, second.ident, without.ident) == (b'"a"', b'"b"', b"")


def test_each_item_has_the_key_it_would_have_alone() -> None:
    together = asked(infer_call([1.5, 2.0], [3.5, 4.0]), INFER)
    assert together.keys == [
        *asked(infer_call([1.5, 2.0]), INFER).keys,
        *asked(infer_call([3.5, 4.0]), INFER).keys,
    ]
    assert together.cutter is not None
    v1 = asked(predict_call([1.5], [2.5]))
    assert v1.keys == [*asked(predict_call([1.5])).keys, *asked(predict_call([2.5])).keys]


def test_items_together_are_another_question_than_each_of_them() -> None:
    whole = asked(predict_call([1.5], [2.5]), rule=policy(items=False))
    assert len(whole.keys) == 1
    assert whole.cutter is None
    assert whole.keys[0] not in asked(predict_call([1.5], [2.5])).keys


def test_very_many_items_are_one_question() -> None:
    many = asked(predict_call(*[[float(n)] for n in range(questions._MOST_ITEMS + 1)]))
    assert len(many.keys) == 1


def test_an_integer_beside_a_fraction_is_another_question_than_alone() -> None:
    beside, alone = asked(predict_call([1], [2.5])), asked(predict_call([1]))
    assert alone.keys[0] not in beside.keys


@pytest.mark.parametrize(
    "headers",
    [
        (b"Authorization", b"Bearer x"),
        (b"Cookie", b"a=b"),
        (b"X-Api-Key", b"k"),
        (b"Accept", b"text/csv"),
        (b"X-Never-Heard-Of", b"1"),
        (b"Host", b"elsewhere"),
    ],
)
def test_whatever_may_matter_separates(headers: tuple[bytes, bytes]) -> None:
    assert asked(with_fields(headers)).keys != asked(with_fields()).keys


@pytest.mark.parametrize(
    "headers",
    [
        (b"User-Agent", b"x"),
        (b"traceparent", b"00-1-2-3"),
        (b"X-Request-Id", b"7"),
        (b"Accept-Encoding", b"gzip"),
        (b"Cache-Control", b"max-age=3"),
        (b"X-Forwarded-For", b"10.0.0.1"),
    ],
)
def test_noise_does_not_separate(headers: tuple[bytes, bytes]) -> None:
    assert asked(with_fields(headers)).keys == asked(with_fields()).keys


def test_callers_share_answers_only_where_the_operator_says_so() -> None:
    one, other = with_fields((b"Authorization", b"a")), with_fields((b"Authorization", b"b"))
    assert asked(one).keys != asked(other).keys
    shared = policy(ignore=("authorization", "x-session"))
    assert asked(one, rule=shared).keys == asked(other, rule=shared).keys


def test_another_generation_is_another_question() -> None:
    assert asked(predict_call(1.5), generation=b"a").keys != asked(predict_call(1.5), generation=b"b").keys


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ((b"If-None-Match", b'"x"'), "conditional"),
        ((b"Range", b"bytes=0-1"), "conditional"),
        ((b"Idempotency-Key", b"1"), "idempotency_key"),
        ((b"Content-Encoding", b"gzip"), "encoded_body"),
    ],
)
def test_special_requests_are_not_looked_up(field: tuple[bytes, bytes], why: str) -> None:
    with pytest.raises(MergeRefused) as refusal:
        asked(with_fields(field))
    assert refusal.value.why == why


def test_a_body_that_no_codec_understands_is_compared_whole() -> None:
    ragged = [asked(predict_call([1.0], [1.0, 2.0])).keys for _ in range(2)]
    assert ragged[0] == ragged[1] != asked(predict_call([1.0], [1.0, 3.0])).keys
    free = Call(b"POST", b"/v1/embeddings", JSON_FIELDS, b'{"input":"x"}')
    assert len(asked(free, OPENAI).keys) == 1


def test_one_item_in_a_list_is_another_question_where_the_answer_is_put_in_one() -> None:
    labels = Match(Route("route", "model", "tei", "infer", (), "tei_predict"), "")
    alone, pair, listed, pairs = (
        asked(Call(b"POST", b"/predict", JSON_FIELDS, b'{"inputs":%b}' % inputs), labels).keys
        for inputs in (b'"a"', b'["a","b"]', b'[["a"]]', b'[["a","b"]]')
    )
    assert len({*alone, *pair, *listed, *pairs}) == 4
    assert alone == asked(Call(b"POST", b"/predict", JSON_FIELDS, b'{"inputs":["a"]}'), labels).keys


@pytest.mark.parametrize(
    "body", [b'{"inputs":[{"parameters":{"shared_memory_region":"r"}}]}', rb'{"a":"\u0031"}']
)
def test_a_body_that_may_point_elsewhere_is_not_looked_up(body: bytes) -> None:
    with pytest.raises(MergeRefused) as refusal:
        asked(Call(b"POST", b"/v2/models/digits/infer", JSON_FIELDS, body), INFER)
    assert refusal.value.why == "input_elsewhere"


def test_a_body_with_a_binary_part_is_not_looked_up_whole() -> None:
    interpreter = an_interpreter()
    call = infer_call([1.5])
    asked(call, INFER, interpreter=interpreter)  # the same bytes without the field are a different request
    call.headers += ((b"Inference-Header-Content-Length", b"20"),)
    with pytest.raises(MergeRefused) as refusal:
        asked(call, INFER, interpreter=interpreter)
    assert refusal.value.why == "binary_tensors"


def test_a_codec_with_a_form_that_cannot_be_packed_is_not_looked_up() -> None:
    class Odd:
        name = "kserve_v1"

        def prepare(self, body: bytes, headers: Headers) -> object:
            return CODECS["kserve_v1"].prepare(body, headers).__class__(object(), 1, (body,))

    interpreter = Interpreter(field_rules, {"kserve_v1": Odd()}, {})  # type: ignore[dict-item]  # on purpose
    with pytest.raises(MergeRefused) as refusal:
        asked(predict_call(1.5), interpreter=interpreter)
    assert refusal.value.why == "form"


def test_the_same_bytes_are_understood_once() -> None:
    interpreter = an_interpreter()
    first = asked(predict_call(1.5), interpreter=interpreter)
    assert asked(predict_call(1.5), interpreter=interpreter) is first
    assert asked(predict_call(2.5), interpreter=interpreter) is not first
    assert asked(predict_call(1.5), rule=policy(items=False), interpreter=interpreter) is not first


def test_what_is_remembered_is_bounded_and_what_is_in_use_survives() -> None:
    interpreter = an_interpreter()
    first = asked(predict_call(0.5), interpreter=interpreter)
    for number in range(3 * questions._REMEMBERED):
        asked(predict_call(number + 0.25), interpreter=interpreter)
        if number % 100 == 0:
            assert asked(predict_call(0.5), interpreter=interpreter) is first
    assert len(interpreter._young) + len(interpreter._old) <= 2 * questions._REMEMBERED
    long = predict_call("x" * questions._LONGEST_REMEMBERED)
    assert asked(long, interpreter=interpreter) is not asked(long, interpreter=interpreter)


def test_rules_of_old_configurations_do_not_pile_up() -> None:
    interpreter = an_interpreter()
    for number in range(questions._MOST_RULES + 5):
        asked(predict_call(1.5), rule=policy(ignore=(f"x-{number}",)), interpreter=interpreter)
    assert len(interpreter._rules) <= questions._MOST_RULES


def test_an_inquiry_knows_what_is_in_its_keys() -> None:
    inquiry = asked(predict_call(1.5))
    assert inquiry.is_keyed(b"accept")
    assert inquiry.is_keyed(b"range")
    assert not inquiry.is_keyed(b"user-agent")


def test_support_speaks_the_protocol() -> None:
    body = infer_call([1.0, 2.0], ident="a").body
    assert isinstance(body, bytes)
    assert msgspec.json.decode(body)["inputs"][0]["shape"] == [1, 2]


def test_an_id_that_the_text_begins_with_is_cut_off_once_for_all() -> None:
    interpreter = an_interpreter()
    first, second = (
        asked(Call(b"POST", b"/p", (), b'{"id": "%b", %b' % (ident, V2[1:])), INFER, interpreter=interpreter)
        for ident in (b"a", b"b")
    )
    assert first.keys is second.keys  # understood once
    assert (first.ident, second.ident) == (b'"a"', b'"b"')
    assert first.envelope.with_id(b"{}", first.ident) == b'{"id":"a"}'


def test_heads_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_MOST_HEADS", 2)
    interpreter, rule = an_interpreter(), policy()
    call = predict_call(1.5)
    assert isinstance(call.body, bytes)
    heads = [object() for _ in range(3)]
    for call.head in heads:
        interpreter.note(call, PREDICT, rule, asked(call, rule=rule, interpreter=interpreter))
    known = []
    for call.head in heads:
        known.append(interpreter.again(call, call.body, PREDICT, rule, b"") is not None)
    assert known == [False, False, True]


def test_a_head_that_was_not_repeated_is_not_noted() -> None:
    interpreter, rule, call = an_interpreter(), policy(), predict_call(1.5)
    assert isinstance(call.body, bytes)
    interpreter.note(call, PREDICT, rule, asked(call, rule=rule, interpreter=interpreter))
    assert interpreter.again(call, call.body, PREDICT, rule, b"") is None


def test_callers_with_keys_of_their_own_are_kept_apart_unless_credentials_are_ignored() -> None:
    def of(identity: bytes, *ignore: str) -> list[bytes]:
        call = predict_call(1.5)
        call.identity = identity
        return asked(call, rule=policy(ignore=ignore)).keys

    assert of(b"ann") != of(b"ben") != of(b"")
    assert of(b"ann", "authorization") == of(b"ben", "authorization") == of(b"", "authorization")
