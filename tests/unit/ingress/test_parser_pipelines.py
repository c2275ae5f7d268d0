"""Many requests in one read, and the memory that what waits takes."""

from __future__ import annotations

import pytest

from proxy.errors import BadRequest, BuffersFull, ProxyError
from proxy.exchange import Ledger
from proxy.ingress.parser import RequestParser
from proxy.ingress.policy import LimitPolicy
from proxy.ingress.rules import HeadRules
from tests.support.recorded_flow import RecordedFlow

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def counted(limit: int = 1 << 20) -> tuple[RequestParser, Ledger]:
    rules, ledger = HeadRules(LimitPolicy()), Ledger(limit)
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    return RequestParser(
        rules, hop, RecordedFlow(), ledger=ledger, new_ids=lambda: (b"a" * 32, b"b" * 16)
    ), ledger


def test_of_many_requests_in_one_read_only_some_become_such_at_once() -> None:
    subject, ledger = counted()
    arrivals = subject.feed(GET * 100 + GET[:7])
    assert len(arrivals) == 8
    assert subject.has_more
    assert not subject.is_idle
    assert not subject.is_in_head
    assert ledger.used == 92 * len(GET) + 7
    rounds = 1
    while subject.has_more:
        arrivals += subject.feed(b"")
        rounds += 1
    assert (len(arrivals), rounds) == (100, 13)
    assert subject.is_in_head
    assert ledger.used == 7
    assert len(subject.feed(GET[7:])) == 1
    assert subject.is_idle
    assert ledger.used == 0


@pytest.mark.parametrize(("end", "fault"), [(b"", None), (GET[:7], BadRequest)])
def test_the_clients_end_is_behind_what_waits(end: bytes, fault: type[ProxyError] | None) -> None:
    subject, ledger = counted()
    arrivals = subject.feed(GET * 20 + end)
    subject.eof()
    assert subject.fault is None
    while subject.has_more:
        arrivals += subject.feed(b"")
    assert len(arrivals) == 20
    assert subject.fault is None if fault is None else isinstance(subject.fault, fault)
    assert ledger.used == 0


def test_nothing_is_held_for_a_client_that_left() -> None:
    subject, ledger = counted()
    subject.feed(GET * 20)
    subject.break_off(BadRequest("gone"))
    assert not subject.has_more
    assert ledger.used == 0


def test_the_beginning_of_a_head_counts_as_memory() -> None:
    subject, ledger = counted(limit=1000)
    assert subject.feed(GET[:-2] + b"A: " + b"a" * 500) == []
    assert ledger.used > 500
    assert subject.fault is None
    assert subject.feed(b"a" * 500) == []
    assert isinstance(subject.fault, BuffersFull)
    assert ledger.used == 0
