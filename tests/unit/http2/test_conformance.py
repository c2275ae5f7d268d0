"""The table of RFC 9113 cases against the bare session, and the page that is generated from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.http2.blocks import BlockWriter
from proxy.http2.events import DataReceived, RequestReceived, TrailersReceived
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_cases import CASES, Case
from tests.support.http2_peer import client_bytes, is_met, parse

PAGE = Path(__file__).parents[3] / "docs" / "http2-conformance.md"


def serve(wire: bytes, *, piece: int) -> bytes:
    """What a server that answers each whole request writes when `wire` arrives in pieces."""
    session = ServerSession(Limits())
    answer = BlockWriter().response(200, ())
    for start in range(0, len(wire), piece):
        for event in session.receive(wire[start : start + piece], now=0.0):
            if isinstance(event, TrailersReceived) or (
                isinstance(event, RequestReceived | DataReceived) and event.is_ended
            ):
                session.send_headers(event.stream_id, answer, end=True)
    return session.data_to_send()


@pytest.mark.parametrize("piece", [1 << 20, 7], ids=["one read", "many reads"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section} {case.text}")
def test_case(case: Case, piece: int) -> None:
    received = parse(serve(client_bytes(case), piece=piece))
    assert is_met(case.expects, received), received


def test_cases_are_distinct() -> None:
    assert len({(case.section, case.text) for case in CASES}) == len(CASES)
    assert len({(case.sends, case.raw) for case in CASES}) == len(CASES)


def render() -> str:
    rows = [f"| {case.section} | {case.text} | {case.expects} |" for case in CASES]
    return "\n".join([
        "# HTTP/2 conformance",
        "",
        "Generated from `tests/support/http2_cases.py`. Each row is run against the session on its own, in one read and",
        "in many small ones, and against a listening port. Sections are those of RFC 9113, or of RFC 7541 where named.",
        "",
        "| section | the client sends | the server answers |",
        "|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def test_page_is_current() -> None:
    """To renew the page: ``python -m tests.unit.http2.test_conformance``."""
    assert PAGE.read_text() == render()


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
