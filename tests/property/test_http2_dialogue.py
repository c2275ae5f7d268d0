"""Whole conversations with the `h2` library as the other side: every body arrives whole, whatever the windows.

Requests and answers of drawn sizes are sent over drawn initial windows and frame sizes, and the bytes between
the two sides are cut anywhere. The server echoes each body with trailers.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http2 import events as ours
from proxy.http2.blocks import BlockWriter
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession, ServerSession, Session
from tests.support.http2_events import apart

WRITER = BlockWriter()
HOST = ((b"host", b"a"),)
TRAILERS = ((b"x-sum", b"1"),)
sizes = st.sampled_from((0, 1, 100, 16_384, 16_385, 70_000, 200_000))
windows = st.sampled_from((1000, 16_384, 65_535, 300_000))
Codes = h2.settings.SettingCodes


def _pieces(data: bytes, cut: int) -> list[bytes]:
    step = max(len(data) // cut, 1)
    return [data[start : start + step] for start in range(0, len(data), step)]


class H2Side:
    """An `h2` connection that sends bodies as its windows allow and gives back what it receives."""

    def __init__(self, *, is_client: bool, window: int) -> None:
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=is_client, header_encoding=None)
        )
        self.connection.initiate_connection()
        self.connection.update_settings({Codes.INITIAL_WINDOW_SIZE: window})
        self.unsent: dict[int, bytes] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, object] = {}
        self.ended: list[int] = []

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.trailers[event.stream_id] = tuple((bytes(k), bytes(v)) for k, v in event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.append(event.stream_id)

    def push(self) -> None:
        for stream_id, body in list(self.unsent.items()):
            room = min(
                self.connection.local_flow_control_window(stream_id), self.connection.max_outbound_frame_size
            )
            piece, rest = body[: max(room, 0)], body[max(room, 0) :]
            if piece:
                self.connection.send_data(stream_id, piece)
            if rest:
                self.unsent[stream_id] = rest
            else:
                del self.unsent[stream_id]
                self.connection.send_headers(stream_id, TRAILERS, end_stream=True)


def _take(session: Session, data: bytes, bodies: dict[int, bytes]) -> list[int]:
    """Collect bodies and give their windows back; the streams that ended with the trailers."""
    ended = []
    for event in apart(session.receive(data, now=0.0)):
        if isinstance(event, ours.DataReceived):
            bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            session.credit(event.stream_id, len(event.data))
        elif isinstance(event, ours.TrailersReceived):
            assert event.headers == TRAILERS
            ended.append(event.stream_id)
    return ended


@settings(max_examples=60, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=4), windows, windows, st.integers(1, 9))
def test_h2_client_and_our_server(bodies: list[int], window: int, our_window: int, cut: int) -> None:
    session = ServerSession(Limits(stream_window=our_window, connection_window=100_000, frame_size=20_000))
    client = H2Side(is_client=True, window=window)
    for index, size in enumerate(bodies):
        stream_id = 1 + 2 * index
        head = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
        client.connection.send_headers(stream_id, head)
        client.unsent[stream_id] = bytes([index]) * size
    received: dict[int, bytes] = {}
    for _ in range(2000):
        client.push()
        for piece in _pieces(client.connection.data_to_send(), cut):
            for stream_id in _take(session, piece, received):
                block, trailers = WRITER.response(200, ()), WRITER.trailers(TRAILERS)
                session.send_message(stream_id, block, received.get(stream_id, b""), trailers)
        answer = session.data_to_send()
        for piece in _pieces(answer, cut):
            client.receive(piece)
        if len(client.ended) == len(bodies):
            break
    assert session.active == 0
    for index, size in enumerate(bodies):
        assert client.bodies.get(1 + 2 * index, b"") == bytes([index]) * size
        assert client.trailers[1 + 2 * index] == TRAILERS


@settings(max_examples=60, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=4), windows, windows, st.integers(1, 9))
def test_our_client_and_h2_server(bodies: list[int], window: int, our_window: int, cut: int) -> None:
    session = ClientSession(Limits(stream_window=our_window, connection_window=100_000, frame_size=20_000))
    server = H2Side(is_client=False, window=window)
    # h2 does not announce again what it owed before its own smaller window was acknowledged.
    server.receive(session.data_to_send())
    session.receive(server.connection.data_to_send(), now=0.0)
    for index, size in enumerate(bodies):
        block = WRITER.request(b"POST", b"http", b"/", HOST)
        stream_id = session.open(block)
        assert stream_id == 1 + 2 * index
        session.send_data(stream_id, bytes([index]) * size)
        session.send_trailers(stream_id, WRITER.trailers(TRAILERS))
    answered: dict[int, bytes] = {}
    for _ in range(2000):
        for piece in _pieces(session.data_to_send(), cut):
            server.receive(piece)
        for stream_id in server.ended:
            server.connection.send_headers(stream_id, ((b":status", b"200"),))
            server.unsent[stream_id] = server.bodies.get(stream_id, b"")
        server.ended.clear()
        server.push()
        for piece in _pieces(server.connection.data_to_send(), cut):
            _take(session, piece, answered)
        if not session.active:
            break
    assert session.active == 0
    for index, size in enumerate(bodies):
        assert answered.get(1 + 2 * index, b"") == bytes([index]) * size
