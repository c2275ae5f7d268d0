"""Heads that come again, or differ a little: what is known of them saves no check."""

from __future__ import annotations

import hashlib

import pytest

from proxy.errors import Unauthorized
from proxy.exchange import Ledger, Stream
from proxy.ingress.parser import RequestParser
from proxy.ingress.policy import AuthPolicy, ForwardingPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules
from tests.support.parsing import POST, one, parser
from tests.support.recorded_flow import RecordedFlow


def test_a_repeated_head_is_recognised_and_gives_the_same_call() -> None:
    subject = parser()
    (first,) = subject.feed(POST)
    (again,) = subject.feed(POST[:-3] + b"xyz")
    assert again.call.body == b"xyz"
    assert (again.call.method, again.call.target, again.call.headers) == (
        first.call.method,
        first.call.target,
        first.call.headers,
    )
    assert again.call.head is first.head
    assert subject.is_idle


def test_calls_with_different_heads_have_no_head_in_common() -> None:
    subject = parser()
    arrivals = [*subject.feed(POST), *subject.feed(POST.replace(b"Host: h", b"Host: g"))]
    assert [arrival.call.head for arrival in arrivals] == [None, None]


def test_a_head_that_differs_in_values_only_gives_the_call_that_it_would_give_by_itself() -> None:
    subject = parser()
    subject.feed(POST)
    for other in (
        POST.replace(b"X-One: 1", b"X-One: 9"),
        POST.replace(b"X-One: 1", b"X-One: 9"),  # and the same again
        POST.replace(b"Length: 3", b"Length: 2")[:-1],
        POST.replace(b"Length: 3", b"Length: 2"),  # a byte too many, of the next head
    ):
        call, alone = subject.feed(other)[0].call, parser().feed(other)[0].call
        assert (call.target, call.headers, call.body) == (alone.target, alone.headers, alone.body)


def test_a_head_that_differs_and_a_body_still_to_come() -> None:
    subject = parser()
    subject.feed(POST)
    (arrival,) = subject.feed(POST.replace(b"X-One: 1", b"X-One: 9")[:-1])
    subject.feed(b"c")
    body = arrival.call.body
    assert isinstance(body, Stream)
    assert body.read_nowait() == b"abc"


def test_heads_that_have_nothing_in_common_are_all_read() -> None:
    subject = parser()
    for number in range(20):
        fields = b"X: 1\r\n" * number
        (arrival,) = subject.feed(b"GET /%d HTTP/1.1\r\nHost: h\r\n%b\r\n" % (number, fields))
        assert arrival.call.target == b"/%d" % number
    assert subject.fault is None


@pytest.mark.parametrize("tail", [b"ab", b"abcGET / HTTP/1.1\r\nHost: h\r\n\r\n", b""])
def test_a_repeated_head_with_another_body_length_takes_the_long_way(tail: bytes) -> None:
    subject = parser()
    subject.feed(POST)
    arrivals = subject.feed(POST[:-3] + tail)
    assert len(arrivals) == max(1, tail.count(b"GET") + 1)
    body = arrivals[0].call.body
    assert (body if isinstance(body, bytes) else body.read_nowait()) == tail[:3]


def test_a_repeated_head_inside_a_body_is_a_body() -> None:
    subject = parser()
    subject.feed(POST)
    (put,) = subject.feed(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(POST))
    assert subject.feed(POST) == []
    assert isinstance(put.call.body, Stream)
    assert put.call.body.read_nowait() == POST


@pytest.mark.parametrize(
    "first",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_repeats_of_any_kind_parse_alike(first: bytes) -> None:
    subject = parser()
    seen = [
        (a.call.target, a.call.body, a.call.headers, a.head.keep_alive, a.call.http_version)
        for _ in range(4)
        for a in subject.feed(first)
    ]
    assert len(seen) == 4
    assert len(set(seen)) == 1


KEYED = b"GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer one\r\n\r\n"


def keyed(*keys: bytes) -> HeadRules:
    digests = tuple(hashlib.sha256(key).hexdigest() for key in keys)
    return HeadRules(LimitPolicy(), auth=AuthPolicy(keys=digests), forwarding=ForwardingPolicy(via="off"))


@pytest.mark.parametrize("other", [KEYED, KEYED.replace(b"models", b"models/2")])
def test_what_was_judged_by_other_rules_is_judged_again(other: bytes) -> None:
    rules = keyed(b"one")
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    subject = RequestParser(
        rules, hop, RecordedFlow(), ledger=Ledger(0), new_ids=lambda: (b"a" * 32, b"b" * 16)
    )
    for _ in range(3):
        assert len(subject.feed(KEYED)) == 1
    assert len(subject.feed(other)) == 1
    renewed = keyed(b"two")
    subject.renew(renewed, renewed.hop(b"192.0.2.1", scheme=b"http", port=0))
    assert subject.feed(other) == []
    assert isinstance(subject.fault, Unauthorized)
    assert subject.refused == (b"GET", other.split()[1])


def test_a_head_that_comes_twice_running_is_the_known_one_from_then_on() -> None:
    subject = parser()
    other = POST.replace(b"X-One: 1", b"X-One: 9")
    for data, is_known in ((POST, False), (POST, True), (other, False), (other, False), (other, True)):
        (arrival,) = subject.feed(data)
        assert (arrival.call.head is not None) is is_known
        assert arrival.call.headers == one(data).call.headers
    (again,) = subject.feed(POST)
    assert again.call.headers == one(POST).call.headers


def test_many_heads_that_differ_are_read_as_each_by_itself() -> None:
    subject = parser()
    for number in range(200):
        data = POST.replace(b"x-one: 2", b"x-one: %d" % number).replace(b"=%2F", b"=%d" % (number % 7))
        (arrival,) = subject.feed(data)
        expected = one(data).call
        assert (arrival.call.target, arrival.call.headers) == (expected.target, expected.headers)
        assert arrival.call.body == b"abc"
