import json
from collections.abc import Iterator

import pytest

from proxy.demo.faults import (
    GARBAGE,
    STRAY,
    TIMED_OUT,
    Fault,
    FaultPlan,
    FaultSyntaxError,
    alter,
    forced_status,
    parse,
    rewrite,
)
from proxy.demo.messages import Answer, Close, Reset, Send, Step, Wait


def script(*parts: bytes) -> Iterator[Step]:
    return iter([Send(part) for part in parts])


def sent(steps: list[Step]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Send))


def test_words_become_faults() -> None:
    assert parse("stall=0.5, close-at=17; every=3; times=2; path=/v2 ,garbage,") == [
        Fault("stall", 0.5),
        Fault("close-at", 17, every=3, times=2, path="/v2"),
        Fault("garbage"),
    ]


@pytest.mark.parametrize(
    "words", ["explode", "stall=soon", "stall=1; every=0", "stall=1; never=1", "stall; every=x"]
)
def test_words_that_name_no_fault(words: str) -> None:
    with pytest.raises(FaultSyntaxError):
        parse(words)


def test_every_and_times_count_the_requests_on_the_path() -> None:
    plan = FaultPlan(["garbage; every=2; times=2; path=/v2"])
    due = [bool(plan.due(path)) for path in ("/v2/a", "/v1", "/v2/b", "/v2/c", "/v2/d", "/v2/e", "/v2/f")]
    assert due == [False, False, True, False, True, False, False]


def test_replacing_faults_starts_their_counts_anew() -> None:
    plan = FaultPlan(["garbage; times=1"])
    assert plan.due("/")
    assert not plan.due("/")
    plan.replace("garbage; times=1")
    assert plan.due("/")


def test_a_forced_status() -> None:
    assert forced_status(parse("stall=1, status=503")) == 503
    assert forced_status(parse("stall=1")) is None


@pytest.mark.parametrize(
    ("document", "delta", "falsified"),
    [
        ({"predictions": [1, 2, 3]}, -1, {"predictions": [1, 2]}),
        ({"predictions": [1, 2]}, 2, {"predictions": [1, 2, 2, 2]}),
        ({"data": [{"index": 0}]}, 1, {"data": [{"index": 0}, {"index": 0}]}),
        ({"outputs": [{"shape": [2], "data": [1, 2]}]}, -1, {"outputs": [{"shape": [1], "data": [1]}]}),
        (
            {"outputs": [{"shape": [2, 2], "data": [1, 2, 3, 4]}]},
            1,
            {"outputs": [{"shape": [3, 2], "data": [1, 2, 3, 4, 3, 4]}]},
        ),
        (
            {"outputs": [{"shape": [2, 2], "data": [[1, 2], [3, 4]]}]},
            -1,
            {"outputs": [{"shape": [1, 2], "data": [[1, 2]]}]},
        ),
    ],
)
def test_a_wrong_number_of_answers(document: object, delta: int, falsified: object) -> None:
    answer = alter(Answer(200, json.dumps(document).encode()), [Fault("count", delta)])
    assert json.loads(answer.body) == falsified


def test_a_wrong_length() -> None:
    assert b"Content-Length: 7\r\n" in alter(Answer(200, b"12345"), [Fault("length", 2)]).render()
    assert b"Content-Length: 3\r\n" in alter(Answer(200, b"12345"), parse("stall=1,length=-2")).render()


def test_a_length_too_large_ends_with_the_connection() -> None:
    assert list(rewrite(script(b"abc"), parse("length=2"))) == [Send(b"abc"), Close()]
    assert list(rewrite(script(b"abc"), parse("length=-2"))) == [Send(b"abc")]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("garbage", [Send(GARBAGE), Close()]),
        ("close-after", [Send(b"ab"), Send(b"cd"), Close()]),
        ("close-at=0", [Send(b""), Close()]),
        ("close-at=1", [Send(b"a"), Close()]),
        ("close-at=2", [Send(b"ab"), Close()]),
        ("reset-at=3", [Send(b"ab"), Send(b"c"), Reset()]),
        ("reset-at=9", [Send(b"ab"), Send(b"cd"), Reset()]),
        ("stall=2", [Wait(2), Send(b"ab"), Send(b"cd")]),
        ("timeout-408=1", [Send(b"ab"), Send(b"cd"), Wait(1), Send(TIMED_OUT), Close()]),
        ("unsolicited", [Send(b"ab"), Send(b"cd"), Wait(0), Send(STRAY)]),
        ("status=500", [Send(b"ab"), Send(b"cd")]),
        ("close-after, stall=1", [Wait(1), Send(b"ab"), Send(b"cd"), Close()]),
    ],
)
def test_the_script_of_a_fault(words: str, steps: list[Step]) -> None:
    assert list(rewrite(script(b"ab", b"cd"), parse(words))) == steps


def test_a_slow_answer_keeps_its_rate_and_its_bytes() -> None:
    steps = list(rewrite(iter((Send(b"x" * 250), Wait(3), Send(b"y"))), parse("slow=1000")))
    assert sent(steps) == b"x" * 250 + b"y"
    assert max(len(step.data) for step in steps if isinstance(step, Send)) == 10
    assert sum(step.span_s for step in steps if isinstance(step, Wait)) == pytest.approx(3 + 0.251)


def test_waits_stay_where_they_are_when_an_answer_is_cut() -> None:
    steps = list(rewrite(iter((Send(b"ab"), Wait(1), Send(b"cd"))), parse("close-at=3")))
    assert steps == [Send(b"ab"), Wait(1), Send(b"c"), Close()]
