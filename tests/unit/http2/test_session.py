"""Both sides of a session beyond the conformance table: lives of streams, settings, GOAWAY, windows."""

from __future__ import annotations

import pytest

from proxy.http2 import events as e
from proxy.http2 import frames as f
from proxy.http2.blocks import TABLE_SIZE_ZERO
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_cases import REQUEST, block
from tests.support.http2_events import apart
from tests.support.http2_peer import parse
from tests.unit.http2.peers import GET, OK, POST, TRAILERS, WRITER, Wire, kinds, only, server, started


def test_states_of_a_stream() -> None:
    wire = Wire()
    assert wire.client.state(1) == wire.server.state(1) == "idle"
    stream_id = wire.client.open(POST)
    wire.to_server()
    assert wire.client.state(1) == wire.server.state(1) == "open"
    assert wire.server.is_live(1)
    wire.client.send_data(stream_id, b"x", end=True)
    wire.to_server()
    assert (wire.client.state(1), wire.server.state(1)) == ("half-closed (local)", "half-closed (remote)")
    wire.server.send_headers(1, OK, end=True)
    wire.to_client()
    assert wire.client.state(1) == wire.server.state(1) == "closed"
    assert not wire.server.is_live(1)
    assert wire.server.state(2) == wire.client.state(2) == "idle"


def test_interim_answers_come_before_the_answer() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_headers(stream_id, WRITER.response(103, ((b"link", b"</a>"),)))
    wire.server.send_headers(stream_id, OK, end=True)
    interim, answer = wire.to_client()
    assert isinstance(interim, e.InterimReceived)
    assert (interim.head.status, interim.head.headers) == (103, ((b"link", b"</a>"),))
    assert isinstance(answer, e.ResponseReceived)
    assert answer.is_ended


def test_an_interim_answer_cannot_end_the_stream() -> None:
    wire = Wire()
    wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_headers(1, WRITER.response(100, ()), end=True)
    assert only(wire.to_client(), e.StreamReset).code == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(("status", "is_head"), [(200, True), (204, False), (304, False)])
def test_an_answer_without_a_body_may_declare_its_length(status: int, is_head: bool) -> None:
    wire = Wire()
    stream_id = wire.client.open_whole(GET, b"", is_head=is_head)
    wire.to_server()
    wire.server.send_headers(stream_id, WRITER.response(status, ((b"content-length", b"5"),)), end=True)
    head = only(wire.to_client(), e.ResponseReceived).head
    assert (head.status, head.content_length) == (status, 5)


def test_an_answer_is_held_against_its_length() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_headers(stream_id, WRITER.response(200, ((b"content-length", b"5"),)))
    wire.server.send_data(stream_id, b"four", end=True)
    assert only(wire.to_client(), e.StreamReset).why == "the body is not as long as content-length says"


@pytest.mark.parametrize("is_one_read", [True, False])
def test_a_request_is_held_against_its_length_however_it_is_read(is_one_read: bool) -> None:
    head = f.frame(f.HEADERS, f.END_HEADERS, 1, block(*REQUEST, (b"content-length", b"5")))
    body = f.frame(f.DATA, f.END_STREAM, 1, b"four")
    session = server()
    reads = (head + body,) if is_one_read else (head, body)
    received, reset = [event for read in reads for event in apart(session.receive(read, 0.0))]
    assert isinstance(received, e.RequestReceived)
    assert isinstance(reset, e.StreamReset)
    assert reset.why == "the body is not as long as content-length says"
    assert kinds(session) == [f.RST_STREAM]


def test_a_whole_message_between_them_parts_a_body_from_its_head() -> None:
    last = f.frame(f.DATA, f.END_STREAM, 1, b"x")
    wire = started(1) + started(3) + f.frame(f.DATA, f.END_STREAM, 3, b"whole") + last
    events = server().receive(wire, 0.0)
    assert [type(event) for event in events] == [e.RequestReceived, e.RequestReceived, e.DataReceived]


def test_a_reset_between_them_parts_the_end_of_a_body_from_its_head() -> None:
    wire = started(1) + started(3) + started(1) + f.frame(f.DATA, f.END_STREAM, 3, b"")
    events = server().receive(wire, 0.0)
    assert [type(event) for event in events] == [
        e.RequestReceived,
        e.RequestReceived,
        e.StreamReset,
        e.DataReceived,
    ]


def test_trailers_wait_for_the_body() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_message(stream_id, OK, bytes(100_000), TRAILERS)
    assert wire.server.queued(stream_id) == 100_000 - 65_535
    size = 0
    while wire.client.active:
        for event in wire.to_client():
            if isinstance(event, e.DataReceived):
                size += len(event.data)
                wire.client.credit(stream_id, len(event.data))
        wire.to_server()
    assert size == 100_000
    assert wire.server.active == 0


def test_trailers_behind_a_streamed_body() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_headers(stream_id, OK)
    wire.server.send_data(stream_id, bytes(70_000))
    wire.server.send_trailers(stream_id, TRAILERS)
    for event in wire.to_client():
        if isinstance(event, e.DataReceived):
            wire.client.credit(stream_id, len(event.data))
    events = wire.settle()
    assert only(events, e.TrailersReceived).headers == ((b"grpc-status", b"0"),)
    assert only(events, e.SendQueueDrained).stream_id == stream_id


def test_streams_take_turns_when_the_connection_is_the_bottleneck() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 1 << 20),)), now=0.0)
    session.receive(started(1, end=True) + started(3, end=True) + started(5, end=True), now=0.0)
    session.send_message(1, OK, bytes(65_535))
    for stream_id in (3, 5):
        session.send_message(stream_id, OK, bytes(40_000))
    session.data_to_send()
    session.receive(f.window_update_frame(0, 65_536), now=0.0)
    served = [stream_id for kind, _, stream_id, _ in parse(session.data_to_send()) if kind == f.DATA]
    assert served == [3, 5, 3, 5]


def test_a_body_that_found_its_window_on_the_connection_says_so() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 1 << 20),)), now=0.0)
    session.receive(started(1, end=True) + started(3, end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, bytes(65_535))
    session.send_headers(3, OK)
    session.send_data(3, b"waits")
    assert only(session.receive(f.window_update_frame(0, 5), now=0.0), e.SendQueueDrained).stream_id == 3


def test_a_second_answer_owes_no_resize() -> None:
    session = server()
    session.receive(started(1, end=True) + started(3, end=True), now=0.0)
    session.send_message(1, OK, b"")
    session.send_message(3, OK, b"")
    first, second = (payload for kind, _, _, payload in parse(session.data_to_send()) if kind == f.HEADERS)
    assert first == TABLE_SIZE_ZERO + second


def test_an_acknowledgement_that_owes_nothing() -> None:
    session = ServerSession(Limits(stream_window=1000))
    session.receive(f.PREFACE + f.settings_frame(()) + started(), now=0.0)
    session.data_to_send()
    session.receive(f.settings_ack(), now=0.0)
    assert not session.wants_to_send


def test_a_smaller_initial_window_may_leave_a_debt() -> None:
    session = server()
    session.receive(started(end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, bytes(10_000))
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 5000),)), now=0.0)
    session.data_to_send()
    session.send_data(1, b"more")
    assert (session.queued(1), kinds(session)) == (4, [])
    session.receive(f.window_update_frame(1, 5000), now=0.0)
    assert session.queued(1) == 4
    assert only(session.receive(f.window_update_frame(1, 4), now=0.0), e.SendQueueDrained).stream_id == 1


def test_an_empty_end_needs_no_window() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 0),)) + started(end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, b"", end=True)
    assert session.active == 0


def test_a_message_without_a_body_needs_no_window() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 10),)), now=0.0)
    session.receive(started(1, end=True) + started(3, end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, bytes(10))
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 0),)), now=0.0)
    session.send_data(1, b"", end=True)
    session.data_to_send()
    session.send_message(3, WRITER.response(200, ((b"x", b"v" * 20_000),)), b"", TRAILERS)
    assert kinds(session) == [f.HEADERS, f.CONTINUATION, f.HEADERS]
    assert session.active == 0


def test_the_first_block_may_be_of_a_streamed_answer() -> None:
    wire = Wire()
    for stream_id in (wire.client.open(GET, end=True), wire.client.open(GET, end=True)):
        wire.to_server()
        wire.server.send_headers(stream_id, OK)
        wire.server.send_trailers(stream_id, TRAILERS)
        assert only(wire.to_client(), e.TrailersReceived).headers == ((b"grpc-status", b"0"),)


def test_the_end_follows_what_is_queued() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 3),)) + started(end=True), now=0.0)
    session.send_headers(1, OK)
    session.send_data(1, b"abc")
    session.send_data(1, b"def")
    session.send_data(1, b"", end=True)
    session.receive(f.window_update_frame(1, 3), now=0.0)
    data = [(flags, payload) for kind, flags, _, payload in parse(session.data_to_send()) if kind == f.DATA]
    assert data == [(0, b"abc"), (f.END_STREAM, b"def")]
    assert session.active == 0


def test_the_peer_says_how_large_frames_may_be() -> None:
    session = server()
    session.receive(f.settings_frame(((f.SETTING_MAX_FRAME_SIZE, 30_000),)) + started(end=True), now=0.0)
    session.send_message(1, WRITER.response(200, ((b"x", b"v" * 40_000),)), bytes(30_001))
    sizes = [
        (kind, len(payload)) for kind, _, _, payload in parse(session.data_to_send()) if kind != f.SETTINGS
    ]
    assert sizes == [(f.HEADERS, 30_000), (f.CONTINUATION, 10_009), (f.DATA, 30_000), (f.DATA, 1)]


def test_a_reset_drops_what_is_queued() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.to_server()
    wire.server.send_message(stream_id, OK, bytes(100_000))
    assert wire.server.reset(stream_id, ErrorCode.INTERNAL_ERROR)
    assert not wire.server.reset(stream_id)
    reset = only(wire.to_client(), e.StreamReset)
    assert (reset.code, reset.by_peer, reset.why) == (2, True, "reset by the peer: INTERNAL_ERROR")
    wire.settle()
    assert wire.server.active == wire.client.active == 0


def test_sending_on_a_stream_that_is_gone_does_nothing() -> None:
    wire = Wire()
    stream_id = wire.client.open(GET, end=True)
    wire.client.reset(stream_id)
    wire.to_server()
    session = wire.server
    assert not session.send_headers(stream_id, OK)
    assert not session.send_data(stream_id, b"x")
    assert not session.send_trailers(stream_id, TRAILERS)
    assert not session.send_message(stream_id, OK, b"x")
    assert session.queued(stream_id) == 0
    session.credit(stream_id, 10)
    session.finish(stream_id)
    assert not session.wants_to_send


def test_finishing_refuses_the_rest_of_a_request_that_has_its_answer() -> None:
    wire = Wire()
    stream_id = wire.client.open(POST)
    wire.to_server()
    wire.server.send_headers(stream_id, OK, end=True)
    wire.server.finish(stream_id)
    assert only(wire.to_client(), e.StreamReset).code == ErrorCode.NO_ERROR


def test_finishing_breaks_off_an_answer_that_is_not_whole() -> None:
    wire = Wire()
    stream_id = wire.client.open(POST)
    wire.to_server()
    wire.server.send_headers(stream_id, OK)
    wire.server.finish(stream_id)
    assert only(wire.to_client(), e.StreamReset).code == ErrorCode.CANCEL


def test_what_was_on_its_way_to_a_reset_stream_is_ignored() -> None:
    session = server()
    session.receive(started(), now=0.0)
    session.reset(1)
    late = f.frame(f.DATA, 0, 1, b"x") + started(1) + f.window_update_frame(1, 5) + f.reset_frame(1, 8)
    assert session.receive(late, now=0.0) == []
    assert not session.is_over


def test_only_the_last_resets_are_remembered() -> None:
    session = server(Limits(streams=3000))
    for stream_id in range(1, 2201, 2):
        session.receive(started(stream_id), now=0.0)
        session.reset(stream_id)
    assert session.receive(f.frame(f.DATA, 0, 2199, b"x"), now=0.0) == []
    assert only(session.receive(f.frame(f.DATA, 0, 1, b"x"), now=0.0), e.SessionEnded)


def test_goaway_refuses_what_the_server_has_not_seen() -> None:
    wire = Wire()
    first, second = wire.client.open(POST), wire.client.open(POST)
    events = wire.client.receive(f.goaway_frame(first, ErrorCode.NO_ERROR, b"bye"), now=0.0)
    refused = only(events, e.StreamReset)
    assert (refused.stream_id, refused.code, refused.by_peer) == (second, ErrorCode.REFUSED_STREAM, True)
    goaway = only(events, e.GoawayReceived)
    assert (goaway.last_stream_id, goaway.code, goaway.debug) == (first, 0, b"bye")
    assert (wire.client.is_draining, wire.client.capacity, wire.client.active) == (True, 0, 1)


def test_a_server_drains_in_two_steps() -> None:
    wire = Wire()
    wire.client.open(POST)
    wire.to_server()
    wire.server.drain()
    crossing = wire.client.open(POST)  # on its way while GOAWAY is on its own
    announced = only(wire.to_client(), e.GoawayReceived)
    assert announced.last_stream_id == f.MAX_STREAM_ID
    events = wire.to_server()
    assert [event.stream_id for event in events if isinstance(event, e.RequestReceived)] == [crossing]
    assert not wire.server.takes_streams
    assert only(wire.to_client(), e.GoawayReceived).last_stream_id == crossing
    late = wire.client.open(POST)
    wire.to_server()
    assert only(wire.to_client(), e.StreamReset).stream_id == late


def test_pings_come_back() -> None:
    wire = Wire()
    wire.client.ping(b"abcdefgh")
    wire.to_server()
    assert only(wire.to_client(), e.PingAcked).payload == b"abcdefgh"


def test_the_end_tells_where_and_why() -> None:
    session = server()
    session.receive(started(end=True), now=0.0)
    session.send_headers(1, OK, end=True)
    session.data_to_send()
    error = only(session.receive(f.frame(f.DATA, 0, 1, b"x"), now=0.0), e.SessionEnded).error
    assert str(error) == "STREAM_CLOSED on stream 1: DATA on a closed stream"
    (goaway,) = parse(session.data_to_send())
    assert f.parse_goaway(goaway[3]) == (1, ErrorCode.STREAM_CLOSED, str(error).encode())


def test_events_before_the_end_are_delivered() -> None:
    session = server()
    request, end = session.receive(started() + f.frame(f.DATA, 0, 0, b""), now=0.0)
    assert isinstance(request, e.RequestReceived)
    assert isinstance(end, e.SessionEnded)


def test_our_windows_hold_once_they_are_acknowledged() -> None:
    wire = Wire(server=Limits(stream_window=1000, connection_window=1 << 20))
    stream_id = wire.client.open(POST)
    wire.client.send_data(stream_id, bytes(1500))
    assert wire.client.queued(stream_id) == 500
    event = only(wire.to_server(), e.DataReceived)
    wire.server.credit(stream_id, len(event.data))
    assert only(wire.to_client(), e.SendQueueDrained).stream_id == stream_id


def test_bytes_sent_before_the_acknowledgement_are_not_lost_to_a_smaller_window() -> None:
    small = ServerSession(Limits(stream_window=1000))
    hello = f.PREFACE + f.settings_frame(())
    small.receive(hello + started() + f.frame(f.DATA, 0, 1, bytes(16_000)), now=0.0)
    small.credit(1, 16_000)
    small.data_to_send()
    small.receive(f.settings_ack(), now=0.0)
    (update,) = parse(small.data_to_send())
    assert (update[0], update[2], f.parse_window_update(1, update[3])) == (f.WINDOW_UPDATE, 1, 16_000)
