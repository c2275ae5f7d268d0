"""What a hostile peer can repeat, and where it ends: one test for each bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.http2 import frames as f
from proxy.http2.errors import ErrorCode
from proxy.http2.events import DataReceived, RequestReceived, SendQueueDrained, SessionEnded, StreamReset
from proxy.http2.limits import Budget, Limits
from proxy.http2.session import ClientSession
from tests.support.http2_cases import REQUEST, block
from tests.unit.http2.peers import OK, kinds, only, server, started

if TYPE_CHECKING:
    from proxy.http2.session import ServerSession

CALM = ErrorCode.ENHANCE_YOUR_CALM
FLOODS = {
    "PING frames": f.ping_frame(b"12345678", ack=False),
    "SETTINGS frames": f.settings_frame(()),
    "acknowledgements of SETTINGS": f.settings_ack(),
    "GOAWAY frames": f.goaway_frame(0, 0),
    "PRIORITY frames": f.frame(f.PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE frames": f.window_update_frame(0, 1),
    "frames of unknown types": f.frame(0x42, 0, 0, b""),
    "empty DATA frames": f.frame(f.DATA, 0, 1, b""),
}


def ended(session: ServerSession, wire: bytes, now: float = 0.0) -> str:
    """Why the session ended on `wire`, or an empty string."""
    for event in session.receive(wire, now):
        if isinstance(event, SessionEnded):
            assert event.error.code == CALM
            return event.error.why
    return ""


@pytest.mark.parametrize("what", FLOODS)
def test_flood_of_useless_frames(what: str) -> None:
    session = server(Limits(control_burst=50, control_rate=0.0))
    session.receive(started(), now=0.0)
    assert not ended(session, FLOODS[what] * 50)
    assert ended(session, FLOODS[what] * 5) == f"too many {what}"
    assert session.is_over
    assert session.receive(started(3), now=0.0) == []


def test_acknowledgements_of_pings_are_a_flood_too() -> None:
    session = server(Limits(control_burst=10, control_rate=0.0))
    assert ended(session, f.ping_frame(b"12345678", ack=True) * 20) == "too many PING frames"


def test_of_ten_thousand_values_for_one_setting_only_the_last_touches_the_streams() -> None:
    session = server()
    session.receive(started() + f.window_update_frame(1, 1), now=0.0)
    too_much_for_the_stream = (f.SETTING_INITIAL_WINDOW_SIZE, f.MAX_WINDOW)
    values = [too_much_for_the_stream] * 2_000 + [(f.SETTING_INITIAL_WINDOW_SIZE, 1_999)]
    events = session.receive(f.settings_frame(values), now=0.0)
    assert not any(isinstance(event, SessionEnded) for event in events)
    assert session._sender.initial_window == 1_999


def test_resets_of_closed_streams_are_a_flood_too() -> None:
    session = server(Limits(control_burst=10, control_rate=0.0))
    session.receive(started() + f.reset_frame(1, 8), now=0.0)
    assert ended(session, f.reset_frame(1, 8) * 20) == "too many RST_STREAM on closed streams"


def test_useful_frames_pay_for_useless_ones() -> None:
    session = server(Limits(control_burst=10, control_rate=0.0, stream_window=1 << 20))
    session.receive(started(), now=0.0)
    for _ in range(100):
        assert not ended(session, f.frame(f.DATA, 0, 1, b"x") + FLOODS["PING frames"] * 3)


def test_time_pays_for_useless_frames() -> None:
    session = server(Limits(control_burst=10, control_rate=5.0))
    for second in range(20):
        assert not ended(session, FLOODS["PING frames"] * 5, now=float(second))


def test_rapid_reset() -> None:
    session = server(Limits(reset_burst=20, reset_rate=0.0))
    rapid = [started(i) + f.reset_frame(i, ErrorCode.CANCEL) for i in range(1, 61, 2)]
    assert not ended(session, b"".join(rapid[:20]))
    assert ended(session, b"".join(rapid[20:])) == "too many streams end without their answer"


def test_resets_that_the_server_is_provoked_to_count_as_well() -> None:
    session = server(Limits(reset_burst=20, reset_rate=0.0))
    provoked = [started(i) + f.window_update_frame(i, 0) for i in range(1, 61, 2)]
    assert not ended(session, b"".join(provoked[:20]))
    assert ended(session, b"".join(provoked[20:])) == "too many streams end without their answer"


def test_headers_on_a_stream_that_was_reset_count_as_well() -> None:
    session = server(Limits(reset_burst=20, reset_rate=0.0))
    session.receive(started(), now=0.0)
    session.reset(1)
    assert not ended(session, started() * 20)
    assert ended(session, started()) == "too many streams end without their answer"


def test_a_backends_headers_on_a_stream_that_was_reset_are_a_flood_too() -> None:
    session = ClientSession(Limits(control_burst=20, control_rate=0.0))
    session.receive(f.settings_frame(()), now=0.0)
    session.reset(session.open(OK))
    stray = f.header_frames(1, OK, 1 << 14, end_stream=False)
    assert not any(isinstance(event, SessionEnded) for event in session.receive(stray * 10, now=0.0))
    event = only(session.receive(stray * 20, now=0.0), SessionEnded)
    assert event.error.why == "too many HEADERS on streams that were reset"


def test_answered_calls_pay_for_resets() -> None:
    session = server(Limits(reset_burst=5, reset_rate=0.0))
    for stream_id in range(1, 401, 4):
        session.receive(started(stream_id, end=True), now=0.0)
        session.send_headers(stream_id, OK, end=True)
        assert not ended(session, started(stream_id + 2) + f.reset_frame(stream_id + 2, 8))


def test_streams_at_once() -> None:
    session = server(Limits(streams=2))
    events = session.receive(started(1) + started(3) + started(5), now=0.0)
    refused = only(events, StreamReset)
    assert (refused.stream_id, refused.code, refused.by_peer) == (5, ErrorCode.REFUSED_STREAM, False)
    assert session.active == 2


def test_continuation_flood_by_number() -> None:
    session = server()
    session.receive(f.frame(f.HEADERS, 0, 1, b"\x82"), now=0.0)
    assert ended(session, f.frame(f.CONTINUATION, 0, 1, b"\x84") * 100)


def test_continuation_flood_by_size() -> None:
    session = server(Limits(header_list=20_000))
    session.receive(f.frame(f.HEADERS, 0, 1, bytes(16_000)), now=0.0)
    assert not ended(session, f.frame(f.CONTINUATION, 0, 1, bytes(16_000)) * 4)
    assert ended(session, f.frame(f.CONTINUATION, 0, 1, bytes(1)))


def test_continuation_flood_of_nothing() -> None:
    session = server(Limits(control_burst=5, control_rate=0.0))
    session.receive(f.frame(f.HEADERS, 0, 1, b""), now=0.0)
    assert ended(session, f.frame(f.CONTINUATION, 0, 1, b"") * 20) == "too many empty header fragments"


def test_header_list_bomb() -> None:
    """One entry of 4 kB in the dynamic table, named again and again by one byte each."""
    session = server(Limits(header_list=65_536))
    entry = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000
    assert ended(session, f.frame(f.HEADERS, 5, 1, block(*REQUEST) + entry + b"\xbe" * 200))


def test_a_header_list_that_is_too_long_costs_its_stream_alone() -> None:
    session = server(Limits(header_list=65_536))
    entry = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000
    over = session.receive(f.frame(f.HEADERS, 5, 1, block(*REQUEST) + entry + b"\xbe" * 20), 0.0)
    assert only(over, StreamReset).code == ErrorCode.ENHANCE_YOUR_CALM
    event = only(session.receive(f.frame(f.HEADERS, 5, 3, block(*REQUEST) + b"\xbe"), 0.0), RequestReceived)
    assert event.head.headers.count((b"a", b"v" * 4000)) == 1


def test_header_list_within_bounds() -> None:
    session = server(Limits(header_list=65_536))
    entry = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000
    event = only(
        session.receive(f.frame(f.HEADERS, 5, 1, block(*REQUEST) + entry + b"\xbe" * 3), 0.0), RequestReceived
    )
    assert event.head.headers.count((b"a", b"v" * 4000)) == 4


def test_acknowledgements_that_nobody_reads() -> None:
    session = server(Limits(unsent=30, control_burst=1000))
    assert not ended(session, FLOODS["PING frames"] * 30)
    assert ended(session, FLOODS["PING frames"]) == "replies to control frames are not being read"


def test_reading_them_makes_room() -> None:
    session = server(Limits(unsent=30, control_burst=1000))
    for _ in range(5):
        assert not ended(session, FLOODS["PING frames"] * 30)
        assert kinds(session) == [f.PING] * 30


def test_tiny_windows_cost_the_peer() -> None:
    session = server(Limits(control_burst=100, control_rate=0.0))
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 0),)) + started(end=True), now=0.0)
    session.send_message(1, OK, bytes(10_000))
    assert ended(session, f.window_update_frame(1, 1) * 100)


def test_zero_window_queues_one_body_and_no_more() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 0),)) + started(end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, bytes(5000))
    assert session.queued(1) == 5000
    assert f.DATA not in kinds(session)
    events = session.receive(f.window_update_frame(1, 5000), now=0.0)
    assert only(events, SendQueueDrained).stream_id == 1
    assert session.queued(1) == 0


def test_a_stream_may_not_send_more_than_its_window() -> None:
    session = server(Limits(stream_window=65_535, connection_window=1 << 20, frame_size=1 << 17))
    events = session.receive(started() + f.frame(f.DATA, 0, 1, bytes(65_536)), now=0.0)
    reset = only(events, StreamReset)
    assert (reset.code, reset.by_peer) == (ErrorCode.FLOW_CONTROL_ERROR, False)
    assert not session.is_over


def test_a_connection_may_not_send_more_than_its_window() -> None:
    session = server(Limits(stream_window=1 << 20, frame_size=1 << 17))
    events = session.receive(started() + f.frame(f.DATA, 0, 1, bytes(65_536)), now=0.0)
    assert only(events, SessionEnded).error.code == ErrorCode.FLOW_CONTROL_ERROR


def test_an_unread_stream_stops_after_its_window_and_the_others_go_on() -> None:
    limits = Limits(stream_window=100_000, connection_window=70_000)
    session = server(limits)
    session.receive(started(1) + started(3), now=0.0)
    for _ in range(6):
        session.receive(f.frame(f.DATA, 0, 1, bytes(16_384)), now=0.0)
    sent = [stream_id for kind, stream_id in updates(session) if kind == f.WINDOW_UPDATE]
    assert set(sent) == {0}  # the connection's window comes back, the unread stream's does not
    event = only(session.receive(f.frame(f.DATA, 0, 3, bytes(16_384)), now=0.0), DataReceived)
    session.credit(3, len(event.data))
    session.credit(1, 6 * 16_384)
    assert (f.WINDOW_UPDATE, 1) in updates(session)


def updates(session: ServerSession) -> list[tuple[int, int]]:
    frames = f.FrameReader(f.MAX_FRAME_SIZE).feed(session.data_to_send())
    return [(kind, stream_id) for kind, _, stream_id, _ in frames]


def test_budget_is_never_over_its_burst() -> None:
    budget = Budget(3, 1.0)
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]
    budget.tokens += 50
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert budget.take(1002.0)
