"""However reads cut a connection's bytes, and whichever way they come in, the session understands the same."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http2 import events as e
from proxy.http2 import frames as f
from proxy.http2.limits import Limits
from proxy.http2.session import ServerSession
from tests.support.http2_cases import REQUEST, block
from tests.support.http2_events import apart
from tests.support.http2_peer import parse

LIMITS = Limits(frame_size=1 << 15, stream_window=1 << 16, connection_window=1 << 17)
OPENING = f.PREFACE + f.settings_frame(()) + f.settings_ack()
HEAD = block(*REQUEST, (b"content-length", b"20000"))
FREE_HEAD = block(*REQUEST)
SIZES = st.sampled_from((0, 1, 4095, 4096, 4097, 10_000, 16_384, 20_000, 32_768, 32_769))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    stream_id = draw(st.sampled_from((1, 1, 1, 3, 5)))
    end = draw(st.booleans())
    match draw(st.sampled_from("hdddpgr")):
        case "h":
            return f.frame(f.HEADERS, f.END_HEADERS, stream_id, draw(st.sampled_from((HEAD, FREE_HEAD))))
        case "d":
            return f.frame(f.DATA, end, stream_id, bytes(draw(SIZES)))
        case "p":
            return f.frame(f.DATA, end | f.PADDED, stream_id, b"\x05" + bytes(draw(SIZES)))
        case "g":
            return f.ping_frame(b"12345678", ack=False)
        case _:
            return f.reset_frame(stream_id, 8)


def understood(reads: list[tuple[bytes, bool]]) -> tuple[list[object], list[tuple[int, int, int, bytes]]]:
    """What happened on each stream, in order, and what was answered."""
    session = ServerSession(LIMITS)
    facts: list[object] = []
    sizes: dict[int, int] = {}
    for read, is_view in reads:
        events = session.receive(memoryview(bytearray(read)), 0.0) if is_view else session.receive(read, 0.0)
        for event in apart(events):
            match event:
                case e.RequestReceived():
                    facts.append(("opened", event.stream_id))
                case e.DataReceived() if event.size:
                    sizes[event.stream_id] = sizes.get(event.stream_id, 0) + event.size
                    assert len(event.data) == event.size
                case e.StreamReset():
                    facts.append(("reset", event.stream_id, event.code))
                case e.SessionEnded():
                    facts.append(("over", event.error.code))
            if isinstance(event, e.MessagePart) and getattr(event, "is_ended", False):
                facts.append(("ended", event.stream_id))
    live = {stream_id: size for stream_id, size in sizes.items() if session.state(stream_id) != "closed"}
    return [*facts, live], parse(session.data_to_send())


@settings(max_examples=300, deadline=None)
@given(st.lists(frames(), max_size=8), st.data())
def test_any_cut_means_the_same(wire: list[bytes], data: st.DataObject) -> None:
    whole = OPENING + f.frame(f.HEADERS, f.END_HEADERS, 1, FREE_HEAD) + b"".join(wire)
    places = st.integers(0, len(whole))
    cuts = sorted({0, len(whole), *data.draw(st.lists(places, max_size=6))})
    reads = [(whole[start:end], data.draw(st.booleans())) for start, end in itertools.pairwise(cuts)]
    expected, answers = understood([(whole, False)])
    assert understood(reads) == (expected, answers)
