"""The table of RFC 9113 cases against the bare session, and the page that is generated from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.http2.blocks import BlockWriter
from proxy.http2.events import DataReceived, RequestReceived, TrailersReceived
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_cases import BODY, CASES, Case
from tests.support.http2_peer import client_bytes, is_met, parse

PAGE = Path(__file__).parents[3] / "docs" / "http2-conformance.md"


H2SPEC = {
    "generic": "1:1 2:5 3.1:3 3.2:3 3.3:5 3.4:1 3.5:1 3.7:1 3.8:1 3.9:2 3.10:2 4:4 5:15",
    "http2": "3.5:2 4.1:3 4.2:3 4.3:3 5.1:13 5.1.1:2 5.1.2:1 5.3.1:2 5.4.1:2 5.5:2 6.1:3 6.2:4 6.3:2 6.4:3 6.5:3"
    " 6.5.2:5 6.5.3:2 6.7:4 6.8:1 6.9:3 6.9.1:3 6.9.2:3 6.10:6 7:2 8.1:1 8.1.2:1 8.1.2.1:4 8.1.2.2:2 8.1.2.3:7"
    " 8.1.2.6:2 8.2:1",
    "hpack": "2.3.3:1 4.2:1 5.2:3 6.1:1 6.3:1",
}
"""How many cases each section of h2spec 2.6 has."""


class Server:
    """A session that answers each whole request."""

    def __init__(self) -> None:
        self.session = ServerSession(Limits())
        self.head = BlockWriter().response(200, ())
        self.bodies: dict[int, bytes] = {}

    def serve(self, wire: bytes, *, piece: int) -> bytes:
        """What it writes when `wire` arrives in pieces."""
        for start in range(0, len(wire), piece):
            for event in self.session.receive(wire[start : start + piece], now=0.0):
                if isinstance(event, RequestReceived):
                    self.bodies[event.stream_id] = BODY if event.head.target == b"/body" else b""
                if isinstance(event, TrailersReceived) or (
                    isinstance(event, RequestReceived | DataReceived) and event.is_ended
                ):
                    self.session.send_message(event.stream_id, self.head, self.bodies[event.stream_id])
        return self.session.data_to_send()


@pytest.mark.parametrize("piece", [1 << 20, 7], ids=["one read", "many reads"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section} {case.text}")
def test_case(case: Case, piece: int) -> None:
    server = Server()
    received = parse(b"".join([server.serve(wire, piece=piece) for wire in client_bytes(case)]))
    assert is_met(case.expects, received), received


def test_cases_are_distinct() -> None:
    assert len({(case.section, case.text) for case in CASES}) == len(CASES)
    assert len({(case.sends, case.then, case.raw) for case in CASES}) == len(CASES)


def test_every_case_of_h2spec_is_here() -> None:
    sections = [(suite, *each.split(":")) for suite, all_ in H2SPEC.items() for each in all_.split()]
    wanted = [
        f"{suite}/{section}/{n}" for suite, section, count in sections for n in range(1, int(count) + 1)
    ]
    assert sorted(name for case in CASES for name in case.h2spec.split()) == sorted(wanted)


def render() -> str:
    rows = [f"| {case.section} | {case.text} | {case.expects} | {case.h2spec} |" for case in CASES]
    return "\n".join([
        "# HTTP/2 conformance",
        "",
        "Generated from `tests/support/http2_cases.py`. Each row is run against the session on its own, in one read and",
        "in many small ones, and against a listening port. Sections are those of RFC 9113, or of RFC 7541 where named.",
        "",
        "The last column names the cases of h2spec 2.6 that ask the same; all of them are here. Where RFC 9113 has dropped",
        "a rule of RFC 7540 (5.3: priorities), the row says what happens instead.",
        "",
        "| section | the client sends | the server answers | h2spec |",
        "|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def test_page_is_current() -> None:
    """To renew the page: ``python -m tests.unit.http2.test_conformance``."""
    assert PAGE.read_text() == render()


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
