"""A client's side of a session: what a server may not do, and what is made of its answers."""

from __future__ import annotations

import pytest

from proxy.http2 import events as e
from proxy.http2 import frames as f
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession
from tests.support.http2_peer import parse
from tests.unit.http2.peers import GET, OK, POST, TRAILERS, WRITER, kinds, only, server, started


# ------------------------------------------------------------------ what a client refuses
def client() -> ClientSession:
    session = ClientSession(Limits())
    session.receive(f.settings_frame(()) + f.settings_ack(), now=0.0)
    session.data_to_send()
    return session


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (f.settings_frame(((f.SETTING_ENABLE_PUSH, 1),)), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.PUSH_PROMISE, 4, 1, bytes(4) + OK), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.HEADERS, 4, 3, OK), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.HEADERS, 4, 2, OK), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.DATA, 0, 3, b"x"), ErrorCode.PROTOCOL_ERROR),
        (f.frame(f.WINDOW_UPDATE, 0, 3, b"\0\0\0\1"), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_server_that_breaks_the_rules(wire: bytes, code: ErrorCode) -> None:
    session = client()
    session.open(GET, end=True)
    assert only(session.receive(wire, now=0.0), e.SessionEnded).error.code == code


def test_a_server_may_leave_push_alone() -> None:
    session = client()
    assert only(session.receive(f.settings_frame(((f.SETTING_ENABLE_PUSH, 0),)), now=0.0), e.SettingsChanged)


def test_one_call_may_precede_what_the_server_announces() -> None:
    session = ClientSession(Limits())
    assert session.capacity == 1
    session.open(GET, end=True)
    assert session.capacity == 0
    session.receive(f.settings_frame(()), now=0.0)
    assert session.capacity == 99


def test_capacity_follows_the_server() -> None:
    session = client()
    session.receive(f.settings_frame(((f.SETTING_MAX_CONCURRENT_STREAMS, 2),)), now=0.0)
    assert session.capacity == 2
    session.open(GET, end=True)
    assert session.capacity == 1
    session.receive(f.settings_frame(((f.SETTING_MAX_CONCURRENT_STREAMS, 0),)), now=0.0)
    assert session.capacity == 0


def test_identifiers_run_out() -> None:
    session = client()
    session._streams.next_own_id = f.MAX_STREAM_ID
    assert session.capacity == 100
    assert session.open(GET, end=True) == f.MAX_STREAM_ID
    assert session.capacity == 0


def test_closing_says_why() -> None:
    session = client()
    session.close(ErrorCode.ENHANCE_YOUR_CALM, "tired")
    (goaway,) = parse(session.data_to_send())
    assert f.parse_goaway(goaway[3]) == (0, ErrorCode.ENHANCE_YOUR_CALM, b"tired")
    assert session.is_draining


def test_a_larger_connection_window_is_announced_at_once() -> None:
    session = ClientSession(Limits(connection_window=1 << 20))
    wire = session.data_to_send().removeprefix(f.PREFACE)
    update = parse(wire)[1]
    assert (update[0], update[2]) == (f.WINDOW_UPDATE, 0)
    assert f.parse_window_update(0, update[3]) == (1 << 20) - f.DEFAULT_WINDOW


def test_a_frame_over_the_limit_ends_the_connection_before_it_is_there() -> None:
    session = server(Limits(frame_size=1 << 14))
    (event,) = session.receive(f.frame(f.DATA, 0, 1, bytes((1 << 14) + 1))[:20], now=0.0)
    assert isinstance(event, e.SessionEnded)
    assert event.error.code == ErrorCode.FRAME_SIZE_ERROR


def test_whole_messages_give_back_the_connections_window() -> None:
    session = server()
    request = WRITER.request(b"POST", b"http", b"/", ((b"host", b"a"),))
    updates = 0
    for stream_id in range(1, 200, 2):
        wire = b"".join(f.message_frames(stream_id, request, bytes(1000), None))
        assert only(session.receive(wire, now=0.0), e.RequestReceived).data == bytes(1000)
        session.send_message(stream_id, OK, b"")
        updates += kinds(session).count(f.WINDOW_UPDATE)
    assert updates == 3


def test_a_backends_whole_messages_are_one_event() -> None:
    session = client()
    stream_id = session.open_whole(POST, b"x")
    answer = b"".join(f.message_frames(stream_id, OK, b"hello", TRAILERS))
    event = only(session.receive(answer, now=0.0), e.ResponseReceived)
    assert (event.data, event.trailers, event.is_ended) == (b"hello", ((b"grpc-status", b"0"),), True)
    assert session.active == 0


def test_a_backends_whole_message_with_bad_trailers_costs_its_stream() -> None:
    session = client()
    stream_id = session.open_whole(POST, b"x")
    bad = WRITER.trailers(((b"connection", b"close"),))
    event = only(
        session.receive(b"".join(f.message_frames(stream_id, OK, b"hello", bad)), 0.0), e.StreamReset
    )
    assert (event.stream_id, event.code, event.by_peer) == (stream_id, ErrorCode.PROTOCOL_ERROR, False)


def test_a_backends_body_of_a_declared_length_is_counted_frame_by_frame() -> None:
    session = client()
    stream_id = session.open_whole(POST, b"x")
    head = WRITER.response(200, ((b"content-length", b"4"),))
    wire = b"".join(f.message_frames(stream_id, head, b"hello", TRAILERS))
    assert only(session.receive(wire, now=0.0), e.StreamReset).code == ErrorCode.PROTOCOL_ERROR


def test_a_frame_that_comes_in_two_reads_is_one() -> None:
    session = server()
    ping = f.ping_frame(b"12345678", ack=False)
    for _ in range(2):
        assert session.receive(ping[:12], now=0.0) == []
        assert not session.wants_to_send
        session.receive(ping[12:], now=0.0)
        assert kinds(session) == [f.PING]


def test_large_bodies_are_handed_over_in_pieces_without_a_copy() -> None:
    session = server()
    session.receive(started(end=True), now=0.0)
    body = bytes(8000)
    session.send_headers(1, OK)
    session.send_data(1, body, end=True)
    assert any(piece is body for piece in session.pieces_to_send())
    assert not session.wants_to_send
