"""The same bytes into our server session and into the `h2` library: the same events, or both refuse.

`h2` raises for what costs us a stream only, so a refusal is a refusal whatever its reach; after it the two go
different ways and the comparison ends. Where the RFC leaves a choice, or `h2` is more lenient than it, the frame is
not generated: each such place is named in `_is_contested`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http2 import events as ours
from proxy.http2 import frames as f
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_events import apart

if TYPE_CHECKING:
    from collections.abc import Iterable

Fact = tuple[object, ...]
REFUSED: Fact = ("refused",)

GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
POST = ((b":method", b"POST"), *GET[1:])
# No content-length: h2 does not miss the rest of a declared body where trailers or the head itself end it.
HEADS = (
    GET,
    POST,
    (*POST, (b"te", b"trailers"), (b"x", b"")),
    (*GET, (b"cookie", b"a=b")),
    GET[1:],
    GET[:3],
    (*GET, (b"X-Upper", b"1")),
    (*GET, (b"connection", b"close")),
    (*GET, (b"te", b"gzip")),
    (*GET, (b":status", b"200")),
    (*GET[:3], (b"x", b"1"), GET[3]),
    (*GET, GET[0]),
    ((b"x-sum", b"1"),),
    ((b"x-sum", b"1"), (b":path", b"/")),
)

stream_ids = st.sampled_from((1, 1, 1, 3, 3, 5, 2, 0))
flags = st.booleans()


def _block(fields: Iterable[tuple[bytes, bytes]], *, indexed: bool, encoder: Encoder) -> bytes:
    if indexed:
        return encoder.encode(list(fields))
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


class Frames:
    """Turns drawn descriptions into bytes; keeps the client's HPACK state."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def headers(
        self, stream_id: int, fields: Fact, end: bool, cut: int, padding: int, indexed: bool
    ) -> bytes:
        block = _block(fields, indexed=indexed, encoder=self.encoder)  # type: ignore[arg-type]  # drawn from HEADS
        parts = [block[:cut], block[cut:]] if cut else [block]
        payload, flag = parts[0], int(end)
        if padding:
            payload, flag = bytes((padding,)) + payload + bytes(padding), flag | f.PADDED
        wire = f.frame(f.HEADERS, flag | (0 if cut else f.END_HEADERS), stream_id, payload)
        return wire + (f.frame(f.CONTINUATION, f.END_HEADERS, stream_id, parts[1]) if cut else b"")


def _headers(frames: Frames, draw: st.DrawFn) -> bytes:
    return frames.headers(
        draw(stream_ids), draw(st.sampled_from(HEADS)), draw(flags), draw(st.sampled_from((0, 0, 0, 3))), draw(st.sampled_from((0, 0, 4))), draw(flags)
    )  # fmt: skip


def _data(_frames: Frames, draw: st.DrawFn) -> bytes:
    payload = draw(st.sampled_from((b"", b"x", b"abc")))
    end, padding = draw(flags), draw(st.sampled_from((0, 0, 3)))
    if padding:
        return f.frame(f.DATA, end | f.PADDED, draw(stream_ids), bytes((padding,)) + payload + bytes(padding))
    return f.frame(f.DATA, int(end), draw(stream_ids), payload)


def _control(_frames: Frames, draw: st.DrawFn) -> bytes:
    stream_id = draw(stream_ids)
    return draw(
        st.sampled_from((
            f.reset_frame(stream_id, 8),
            f.window_update_frame(stream_id, 1000),
            f.window_update_frame(stream_id, f.MAX_WINDOW),
            f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 10),)),
            f.settings_frame(((f.SETTING_MAX_FRAME_SIZE, 1),)),
            f.settings_frame(((f.SETTING_ENABLE_PUSH, 2),)),
            f.settings_frame(((0x99, 2),)),
            f.ping_frame(b"12345678", ack=False),
            f.frame(f.PING, 0, 0, b"123"),
            f.frame(f.PING, 0, 1, b"12345678"),
            f.frame(f.RST_STREAM, 0, stream_id, b"123"),
            f.frame(f.SETTINGS, 0, 0, b"123"),
            f.frame(f.SETTINGS, 0, 1, b""),
            f.frame(f.WINDOW_UPDATE, 0, 0, b"123"),
            f.frame(0x55, 0xFF, stream_id, b"?"),
            f.frame(f.PRIORITY, 0, stream_id or 1, b"\0\0\0\x09\0"),
            f.frame(f.CONTINUATION, f.END_HEADERS, stream_id, b"\x82"),
            f.frame(f.PUSH_PROMISE, f.END_HEADERS, 1, b"\0\0\0\x02\x82"),
        ))
    )  # fmt: skip


@st.composite
def wires(draw: st.DrawFn) -> list[bytes]:
    frames = Frames()
    makers = draw(st.lists(st.sampled_from((_headers, _headers, _data, _data, _control)), max_size=12))
    return [maker(frames, draw) for maker in makers]


def _server() -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(
        h2.config.H2Configuration(client_side=False, header_encoding=None)
    )
    connection.initiate_connection()
    return connection


def _theirs(connection: h2.connection.H2Connection, wire: bytes) -> list[Fact]:
    try:
        events = connection.receive_data(wire)
    except h2.exceptions.ProtocolError:
        return [REFUSED]
    facts: list[Fact] = []
    for event in events:
        match event:
            case h2.events.RequestReceived():
                facts.append(("request", event.stream_id))
            case h2.events.DataReceived() if event.data:
                facts.append(("data", event.stream_id, event.data))
            case h2.events.TrailersReceived():
                facts.append(("trailers", event.stream_id))
            case h2.events.StreamEnded():
                facts.append(("end", event.stream_id))
            case h2.events.StreamReset():
                facts.append(("reset", event.stream_id) if event.remote_reset else REFUSED)
            case h2.events.RemoteSettingsChanged():
                facts.append(("settings",))
    return facts


def _ours(session: ServerSession, wire: bytes) -> list[Fact]:
    facts: list[Fact] = []
    for event in apart(session.receive(wire, now=0.0)):
        match event:
            case ours.RequestReceived():
                facts.append(("request", event.stream_id))
            case ours.DataReceived() if event.data:
                facts.append(("data", event.stream_id, event.data))
            case ours.TrailersReceived():
                facts.extend((("trailers", event.stream_id), ("end", event.stream_id)))
            case ours.StreamReset():
                facts.append(("reset", event.stream_id) if event.by_peer else REFUSED)
            case ours.SettingsChanged():
                facts.append(("settings",))
            case ours.SessionEnded():
                facts.append(REFUSED)
        if isinstance(event, ours.RequestReceived | ours.DataReceived) and event.is_ended:
            facts.append(("end", event.stream_id))
    return facts


def _is_contested(wire: bytes, session: ServerSession) -> bool:
    """Where the two may differ, by the RFC's leave or by h2's leniency."""
    for kind, _flags, stream_id, _payload in f.FrameReader().feed(wire):
        is_closed = session.state(stream_id) == "closed"
        if is_closed and kind in {f.DATA, f.HEADERS, f.RST_STREAM, f.WINDOW_UPDATE}:
            return True  # §5.1 lets an endpoint ignore or refuse frames on a closed stream
        if kind == f.RST_STREAM and session.state(stream_id) == "idle":
            return True  # h2 ignores it, §6.4 does not
    return False


@settings(max_examples=400, deadline=None)
@given(wires())
def test_same_bytes_same_events(wire: list[bytes]) -> None:
    session, connection = ServerSession(Limits()), _server()
    hello = f.PREFACE + f.settings_frame(())
    assert _ours(session, hello) == _theirs(connection, hello)
    for piece in wire:
        if _is_contested(piece, session):
            return
        here, there = _ours(session, piece), _theirs(connection, piece)
        if REFUSED in here or REFUSED in there:
            assert REFUSED in here, (piece, there)
            assert REFUSED in there, (piece, here)
            return
        assert here == there
