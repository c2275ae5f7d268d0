from __future__ import annotations

import pytest

from proxy.exchange import Call
from proxy.routing.naming import MOST, is_named_in_body, is_worth_waiting_for, named
from proxy.routing.policy import Kind, Route, Rule
from proxy.routing.table import Match


def match(kind: Kind = "stream", model: str = "") -> Match:
    return Match(Route("chat", "model", "openai", kind, (Rule((), "*"),)), model)


def call(*headers: tuple[bytes, bytes]) -> Call:
    return Call(b"POST", b"/v1/chat/completions", headers)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"messages": [{"model": "no"}], "model": "yes"}', "yes"),
        ('{"model": "caf\u00e9"}'.encode(), "caf\u00e9"),
        (b'{"messages": []}', ""),
        (b'{"model": 3}', ""),
        (b'["model"]', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_member_of_the_whole_names_the_model(body: bytes, model: str) -> None:
    subject = match()
    found = named(subject, body)
    assert (found.model, found.route) == (model, subject.route)
    assert (found is subject) == (not model)


def test_a_body_is_asked_only_where_the_path_says_nothing() -> None:
    assert is_named_in_body(call(), match())
    assert is_named_in_body(call(), match("infer"))
    assert not is_named_in_body(call(), match("metadata"))
    assert not is_named_in_body(call(), match(model="m"))
    grpc = call()
    grpc.is_grpc = True
    assert not is_named_in_body(grpc, match()), "a message of which nothing is known"
    route = Route("infer", "model", "open-inference", "infer", (Rule((), "*"),), model_at=(1,))
    assert is_named_in_body(grpc, Match(route, ""))


def test_only_a_small_body_is_waited_for() -> None:
    assert is_worth_waiting_for(call(), MOST)
    assert not is_worth_waiting_for(call(), MOST + 1)
    assert not is_worth_waiting_for(call(), None)
    assert not is_worth_waiting_for(call((b"Expect", b"100-continue")), 10)
