"""Large DATA frames come in parts, as reads cut them, and uncopied where the reader says so."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from proxy.http2 import events as e
from proxy.http2 import frames as f
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_cases import REQUEST, block
from tests.support.http2_events import apart
from tests.support.http2_peer import parse
from tests.unit.http2.peers import HELLO, OK, Wire, kinds, only, server, started

if TYPE_CHECKING:
    from proxy.http2.events import Event

BODY = bytes(range(256)) * 64
FRAME = f.frame(f.DATA, f.END_STREAM, 1, BODY)
LEAST = 4096


def open_server(limits: Limits | None = None) -> ServerSession:
    session = server(limits)
    session.receive(started(1), now=0.0)
    return session


def data(events: list[Event]) -> list[tuple[bytes, bool]]:
    return [(event.data, event.is_ended) for event in events if isinstance(event, e.DataReceived)]


def received(session: ServerSession, wire: bytes, *, is_view: bool) -> list[Event]:
    return session.receive(memoryview(wire), 0.0) if is_view else session.receive(wire, 0.0)


@pytest.mark.parametrize("is_view", [False, True])
def test_each_read_brings_its_part(is_view: bool) -> None:
    session = open_server()
    cuts = (0, 9 + LEAST, 9 + 2 * LEAST, len(FRAME))
    found = [data(received(session, FRAME[a:b], is_view=is_view)) for a, b in pairwise(cuts)]
    assert found == [
        [(BODY[:LEAST], False)],
        [(BODY[LEAST : 2 * LEAST], False)],
        [(BODY[2 * LEAST :], True)],
    ]
    assert session.state(1) == "half-closed (remote)"


def test_a_view_is_not_copied() -> None:
    memory = bytearray(FRAME)
    event = only(open_server().receive(memoryview(memory), 0.0), e.DataReceived)
    assert event.size == len(BODY)
    memory[-1] ^= 0xFF
    assert event.data == bytes(memory[9:])


def test_nothing_refers_to_what_was_read_once_its_events_are_gone() -> None:
    memory = bytearray(FRAME)
    session = open_server()
    session.receive(memoryview(memory)[:-1], 0.0)
    memory.append(0)  # BufferError if anything did


def test_small_parts_wait_for_more() -> None:
    session = open_server()
    at = 9 + LEAST
    assert session.receive(FRAME[: at - 1], 0.0) == []
    assert session.receive(FRAME[at - 1 : at], 0.0) == []
    assert data(session.receive(FRAME[at : at + LEAST], 0.0)) == []
    assert data(session.receive(memoryview(FRAME)[at + LEAST :], 0.0)) == [(BODY, True)]


def test_small_parts_of_a_frame_that_was_begun_wait_for_more() -> None:
    session = open_server()
    at = 9 + LEAST
    assert data(session.receive(FRAME[:at], 0.0)) == [(BODY[:LEAST], False)]
    for position in range(at, at + 100):
        assert session.receive(FRAME[position : position + 1], 0.0) == []
    assert data(session.receive(memoryview(FRAME)[at + 100 :], 0.0)) == [(BODY[LEAST:], True)]


def test_a_part_that_waits_is_no_head() -> None:
    session = open_server()
    session.receive(FRAME[: 9 + LEAST], 0.0)
    session.receive(bytes((f.HEADERS,)) * 20, 0.0)
    assert not session.is_mid_head


def test_the_last_part_may_be_small() -> None:
    session = open_server()
    session.receive(FRAME[:-1], 0.0)
    assert data(session.receive(FRAME[-1:] + f.ping_frame(b"12345678", ack=False), 0.0)) == [
        (BODY[-1:], True)
    ]
    assert kinds(session) == [f.PING]


def test_parts_count_once_on_the_windows() -> None:
    wire = Wire(server=Limits(stream_window=2 * len(BODY)))
    stream_id = wire.client.open(block(*REQUEST))
    wire.to_server()
    wire.client.send_data(stream_id, BODY)
    sent = wire.client.data_to_send()
    for a, b in ((0, 5000), (5000, len(sent))):
        for event in wire.server.receive(sent[a:b], 0.0):
            assert isinstance(event, e.DataReceived)
            wire.server.credit(stream_id, event.size)
    assert [(kind, of) for kind, _, of, _ in parse(wire.server.data_to_send())] == [
        (f.WINDOW_UPDATE, stream_id)
    ]


def test_what_joins_the_head_is_its_first_piece() -> None:
    session = server()
    (event,) = session.receive(memoryview(started(1) + FRAME[:-1]), 0.0)
    assert isinstance(event, e.RequestReceived)
    assert (event.data, event.is_ended) == (BODY[:-1], False)
    assert data(session.receive(FRAME[-1:], 0.0)) == [(BODY[-1:], True)]


def test_an_answer_in_parts() -> None:
    wire = Wire()
    stream_id = wire.client.open(block(*REQUEST), end=True)
    wire.to_server()
    wire.server.send_headers(stream_id, OK)
    wire.server.send_data(stream_id, BODY, end=True)
    sent = wire.server.data_to_send()
    head, *first = apart(wire.client.receive(memoryview(sent)[:9000], 0.0))
    assert isinstance(head, e.ResponseReceived)
    rest = apart(wire.client.receive(memoryview(sent)[9000:], 0.0))
    assert b"".join(part for part, _ in data(first) + data(rest)) == BODY
    assert wire.client.active == 0


def test_a_stream_over_its_window_is_refused_with_the_frame_s_header() -> None:
    session = open_server()
    for _ in range(3):
        session.receive(f.frame(f.DATA, 0, 1, BODY), 0.0)
    session.receive(f.frame(f.DATA, 0, 1, BODY[:-1]), 0.0)
    session.data_to_send()
    begun = session.receive(FRAME[: 9 + LEAST], 0.0)
    reset = only(begun, e.StreamReset)
    assert (reset.stream_id, reset.code, reset.by_peer) == (1, ErrorCode.FLOW_CONTROL_ERROR, False)
    after = f.ping_frame(b"12345678", ack=False)
    assert session.receive(FRAME[9 + LEAST :] + after, 0.0) == []
    assert kinds(session)[-1:] == [f.PING]


def test_a_body_that_is_longer_than_declared_is_refused_with_the_frame_s_header() -> None:
    session = server()
    head = f.frame(f.HEADERS, f.END_HEADERS, 1, block(*REQUEST, (b"content-length", b"5000")))
    session.receive(head, 0.0)
    reset = only(session.receive(FRAME[: 9 + LEAST], 0.0), e.StreamReset)
    assert reset.code == ErrorCode.PROTOCOL_ERROR


def test_frames_in_parts_for_nobody() -> None:
    session = open_server()
    session.reset(1)
    assert session.receive(FRAME[: 9 + LEAST], 0.0) == []
    assert session.receive(FRAME[9 + LEAST :], 0.0) == []
    assert not session.is_over
    idle = f.frame(f.DATA, 0, 7, BODY)
    assert isinstance(session.receive(memoryview(idle)[: 9 + LEAST], 0.0)[-1], e.SessionEnded)
    assert session.receive(memoryview(idle)[9 + LEAST :], 0.0) == []


def test_padded_frames_come_whole() -> None:
    session = open_server()
    padded = f.frame(f.DATA, f.PADDED, 1, b"\x03" + BODY[:-9] + bytes(3))
    assert session.receive(memoryview(padded)[:-1], 0.0) == []
    assert data(session.receive(memoryview(padded)[-1:], 0.0)) == [(BODY[:-9], False)]


@pytest.mark.parametrize("is_view", [False, True])
def test_other_frames_come_whole(is_view: bool) -> None:
    session = open_server()
    unknown = f.frame(0x55, 0, 1, BODY)
    assert received(session, unknown[:-1], is_view=is_view) == []
    assert session.receive(unknown[-1:] + FRAME, 0.0) != []
    assert not session.is_over


def test_a_view_before_the_handshake_and_between_fragments() -> None:
    session = ServerSession(Limits())
    opening = f.frame(f.HEADERS, 0, 1, block(*REQUEST)) + f.frame(f.CONTINUATION, f.END_HEADERS, 1)
    events = session.receive(memoryview(HELLO + opening[:-9]), 0.0)
    assert not any(isinstance(event, e.RequestReceived) for event in events)
    assert isinstance(session.receive(memoryview(opening[-9:]), 0.0)[0], e.RequestReceived)
    assert data(session.receive(memoryview(FRAME), 0.0)) == [(BODY, True)]


def test_data_between_fragments_ends_the_session_when_it_is_whole() -> None:
    session = open_server()
    session.receive(f.frame(f.HEADERS, 0, 3, block(*REQUEST)), 0.0)
    assert session.receive(FRAME[:-1], 0.0) == []
    assert isinstance(session.receive(FRAME[-1:], 0.0)[-1], e.SessionEnded)


def test_a_view_with_an_error_in_it() -> None:
    session = open_server()
    wrong = f.frame(f.WINDOW_UPDATE, 0, 1, bytes(4)) + f.frame(f.DATA, 0, 0, b"x")
    reset, ended = session.receive(memoryview(FRAME + wrong), 0.0)[1:]
    assert isinstance(reset, e.StreamReset)
    assert isinstance(ended, e.SessionEnded)


def test_what_is_queued_of_a_view_is_copied() -> None:
    wire = Wire()
    stream_id = wire.client.open(block(*REQUEST))
    wire.to_server()
    memory = bytearray(BODY * 5)
    wire.client.send_data(stream_id, memoryview(memory), end=True)
    assert wire.client.queued(stream_id) == len(memory) - f.DEFAULT_WINDOW
    got = [event for event in wire.to_server() if isinstance(event, e.DataReceived)]
    memory[:] = bytes(len(memory))
    wire.server.credit(stream_id, f.DEFAULT_WINDOW)
    wire.to_client()
    got += [event for event in wire.to_server() if isinstance(event, e.DataReceived)]
    assert b"".join(event.data for event in got) == BODY * 5
    assert got[-1].is_ended


# ---------------------------------------------------------------- runs of frames
def test_frames_of_one_stream_that_follow_each_other_are_one_event() -> None:
    session = open_server()
    wire = b"".join(f.frame(f.DATA, 0, 1, BODY[:size]) for size in (5000, 5, 6000)) + FRAME
    event = only(session.receive(memoryview(wire), 0.0), e.DataReceived)
    assert [len(piece) for piece in event.pieces] == [5000, 5, 6000, len(BODY)]
    assert (event.size, event.is_ended) == (11_005 + len(BODY), True)


def test_a_short_run_is_copied() -> None:
    memory = bytearray(f.frame(f.DATA, 0, 1, b"one") + f.frame(f.DATA, 0, 1, b"two"))
    event = only(open_server().receive(memoryview(memory), 0.0), e.DataReceived)
    memory.clear()  # BufferError if anything referred to it
    assert event.pieces == [b"onetwo"]


def test_a_session_says_whether_large_pieces_wait_to_be_written() -> None:
    wire = Wire()
    stream_id = wire.client.open(block(*REQUEST))
    wire.client.send_data(stream_id, b"small")
    assert not wire.client.is_bulky
    wire.client.send_data(stream_id, BODY)
    assert wire.client.is_bulky
    wire.client.data_to_send()
    assert not wire.client.is_bulky


def test_frames_of_two_streams_are_two_events() -> None:
    session = open_server()
    session.receive(started(3), 0.0)
    wire = b"".join(f.frame(f.DATA, 0, stream_id, BODY) for stream_id in (1, 3, 1))
    events = session.receive(memoryview(wire), 0.0)
    assert [(event.stream_id, event.size) for event in events if isinstance(event, e.DataReceived)] == [
        (1, len(BODY)),
        (3, len(BODY)),
        (1, len(BODY)),
    ]


def test_a_run_stops_where_a_window_does() -> None:
    session = open_server()
    wire = f.frame(f.DATA, 0, 1, BODY) * 4
    event, reset = session.receive(memoryview(wire), 0.0)
    assert isinstance(event, e.DataReceived)
    assert event.size == 3 * len(BODY)
    assert isinstance(reset, e.StreamReset)


def test_a_run_behind_a_head_joins_it() -> None:
    session = server()
    wire = started(1) + f.frame(f.DATA, 0, 1, BODY) * 2 + f.frame(f.DATA, 0, 1, b"x")
    (event,) = session.receive(memoryview(wire), 0.0)
    assert isinstance(event, e.RequestReceived)
    assert event.data == BODY * 2 + b"x"


def test_a_frame_that_is_too_large_ends_the_session() -> None:
    session = open_server()
    wire = f.frame(f.DATA, 0, 1, b"x") + f.frame(f.DATA, 0, 1, BODY + b"x")
    event, ended = session.receive(memoryview(wire), 0.0)
    assert isinstance(event, e.DataReceived)
    assert isinstance(ended, e.SessionEnded)
    assert ended.error.code == ErrorCode.FRAME_SIZE_ERROR


# ---------------------------------------------------------------- many pieces out
def test_pieces_leave_in_few_frames() -> None:
    wire = Wire(server=Limits(frame_size=1 << 15))
    stream_id = wire.client.open(block(*REQUEST))
    wire.to_server()
    parts: list[bytes | memoryview] = [BODY[:10_000], memoryview(BODY), b"x", BODY]
    assert wire.client.send_parts(stream_id, parts, 10_001 + 2 * len(BODY))
    sent = parse(wire.client.data_to_send())
    assert [(kind, of, len(payload)) for kind, _, of, payload in sent] == [
        (f.DATA, stream_id, 10_001 + len(BODY)),
        (f.DATA, stream_id, len(BODY)),
    ]


def test_pieces_that_cannot_all_leave_are_left_to_their_owner() -> None:
    wire = Wire(server=Limits(connection_window=1 << 20))
    stream_id = wire.client.open(block(*REQUEST))
    other = wire.client.open(block(*REQUEST))
    wire.to_server()
    most = f.DEFAULT_WINDOW
    assert not wire.client.send_parts(stream_id, [BODY] * 4, most + 1)
    assert not wire.client.send_parts(stream_id, [BODY + b"x"], len(BODY) + 1)
    wire.client.send_data(stream_id, bytes(most + 1))
    assert not wire.client.send_parts(stream_id, [b"x"], 1)
    assert not wire.client.send_parts(99, [b"x"], 1)
    assert wire.client.send_parts(other, [b"x"], 1)


def test_the_connection_s_window_bounds_pieces_too() -> None:
    wire = Wire()
    streams = [wire.client.open(block(*REQUEST)) for _ in range(2)]
    wire.to_server()
    wire.client.send_data(streams[0], bytes(f.DEFAULT_WINDOW))
    assert not wire.client.send_parts(streams[1], [b"x"], 1)


# ---------------------------------------------------------------- wider windows
def test_the_window_of_a_stream_that_keeps_up_grows_to_a_bound() -> None:
    limits = Limits(
        stream_window=1 << 16, widest_window=150_000, spare_window=1 << 20, connection_window=1 << 20
    )
    wire = Wire(server=limits)
    stream_id = wire.client.open(block(*REQUEST))
    wire.to_server()
    granted = []
    for _ in range(4):
        wire.server.credit(stream_id, 1 << 16, has_paused=False)
        granted += [int.from_bytes(payload) for _, _, _, payload in parse(wire.server.data_to_send())]
    assert granted[:2] == [2 << 16, (1 << 16) + 150_000 - (2 << 16)]
    assert sum(granted) <= 4 * (1 << 16) + 150_000 - (1 << 16)


def test_a_consumer_that_has_paused_gets_back_what_it_took() -> None:
    limits = Limits(stream_window=1 << 16, widest_window=1 << 20, spare_window=1 << 20)
    wire = Wire(server=limits)
    stream_id = wire.client.open(block(*REQUEST))
    wire.to_server()
    wire.server.credit(stream_id, 1 << 16)
    assert [int.from_bytes(payload) for _, _, _, payload in parse(wire.server.data_to_send())] == [1 << 16]


def test_all_streams_share_what_windows_may_grow_by() -> None:
    limits = Limits(stream_window=1 << 16, widest_window=1 << 20, spare_window=100_000)
    wire = Wire(server=limits)
    first, second = (wire.client.open(block(*REQUEST)) for _ in range(2))
    wire.to_server()

    def credited(stream_id: int) -> int:
        wire.server.credit(stream_id, 1 << 16, has_paused=False)
        return sum(int.from_bytes(payload) for _, _, _, payload in parse(wire.server.data_to_send()))

    assert credited(first) == 2 << 16
    assert credited(second) == (1 << 16) + 100_000 - (1 << 16)
    wire.server.reset(first)
    wire.to_client()
    third = wire.client.open(block(*REQUEST))
    wire.to_server()
    assert credited(third) == 2 << 16
