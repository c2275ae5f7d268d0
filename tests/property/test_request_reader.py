"""Whatever bytes a client sends: how they are cut into reads changes nothing, and h11 sees the same messages."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange import Ledger, Stream
from proxy.ingress.parser import RequestParser
from proxy.ingress.policy import LimitPolicy
from proxy.ingress.rules import HeadRules
from tests.integration.http.cases import CASES
from tests.property.requests import cuts, pipelines, spoilt

Message = tuple[bytes, bytes, bytes]

CORPUS = sorted({case.sent for case in CASES})


class Deaf:
    """A socket that need not be paused."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abandon(self) -> None: ...


def read_here(pieces: list[bytes]) -> tuple[list[Message], str]:
    """(method, target, body) of each whole request that our reader finds, and the fault behind them."""
    rules = HeadRules(LimitPolicy())
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=80)
    parser = RequestParser(rules, hop, Deaf(), ledger=Ledger(1 << 30), new_ids=lambda: (b"a" * 32, b"b" * 16))
    calls = [arrival.call for piece in pieces for arrival in parser.feed(piece)]
    messages = []
    for call in calls:
        body = call.body
        if isinstance(body, Stream):
            if not body.is_ended or body.error is not None:
                continue
            body = body.read_nowait()
        messages.append((call.method, call.target, body))
    return messages, type(parser.fault).__name__


def read_by_h11(data: bytes) -> list[Message]:
    """What h11 finds in the same bytes, up to its first complaint; like us it may skip one empty line before each."""
    messages: list[Message] = []
    while data:
        found = _one_by_h11(data.removeprefix(b"\r\n"))
        if found is None:
            break
        message, data = found
        messages.append(message)
    return messages


def _one_by_h11(data: bytes) -> tuple[Message, bytes] | None:
    """The first request in `data` and what follows it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.EndOfMessage):
        return None
    return (bytes(request.method), bytes(request.target), body), connection.trailing_data[0]


@pytest.mark.parametrize("sent", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_is_read_alike_however_it_is_cut(sent: bytes) -> None:
    whole = read_here([sent])
    assert read_here([sent[at : at + 1] for at in range(len(sent))]) == whole
    assert read_here([sent[at : at + 7] for at in range(0, len(sent), 7)]) == whole


@given(pipelines(), st.data())
def test_reads_may_end_anywhere(requests: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(requests)
    whole = read_here([sent])
    assert len(whole[0]) == len(requests)
    assert read_here(data.draw(cuts(sent))) == whole


@given(pipelines())
def test_a_pipeline_is_what_h11_reads(requests: list[bytes]) -> None:
    sent = b"".join(requests)
    assert read_here([sent])[0] == read_by_h11(sent)


@given(spoilt(), st.data())
def test_nothing_is_found_in_spoilt_bytes_that_h11_does_not_find(sent: bytes, data: st.DataObject) -> None:
    ours, fault = read_here([sent])
    theirs = read_by_h11(sent)
    assert ours == theirs[: len(ours)], fault
    assert read_here(data.draw(cuts(sent)))[0] == ours
