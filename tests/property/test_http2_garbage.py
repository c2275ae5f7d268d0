"""Whatever arrives, a session answers with frames and never raises, nor grows without end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http2 import frames as f
from proxy.http2.blocks import BlockWriter
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession, ServerSession, Session
from tests.support.http2_peer import parse

frames = st.builds(
    f.frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from((0, 1, 1, 2, 3, 5, (1 << 31) - 1)),
    st.binary(max_size=40) | st.sampled_from((b"\x82\x86\x84\x01\x01a", b"\x88", bytes(4), bytes(8))),
)


def _run(session: Session, wire: bytes, pieces: int) -> None:
    step = max(len(wire) // pieces, 1)
    for start in range(0, len(wire), step):
        part = wire[start : start + step]
        if start // step % 2:
            session.receive(memoryview(part), now=0.0)
        else:
            session.receive(part, now=0.0)
    said = parse(session.data_to_send().removeprefix(f.PREFACE))
    assert [kind for kind, *_ in said].count(f.GOAWAY) == session.is_over
    assert session.active <= session.limits.streams


@settings(max_examples=500, deadline=None)
@given(st.lists(frames, max_size=12), st.integers(1, 6))
def test_a_server_meets_garbage(wire: list[bytes], pieces: int) -> None:
    _run(ServerSession(Limits(streams=3)), f.PREFACE + f.settings_frame(()) + b"".join(wire), pieces)


@settings(max_examples=500, deadline=None)
@given(st.lists(frames, max_size=12), st.integers(1, 6))
def test_a_client_meets_garbage(wire: list[bytes], pieces: int) -> None:
    session = ClientSession(Limits())
    block = BlockWriter().request(b"GET", b"http", b"/", ((b"host", b"a"),))
    session.open(block, end=True)
    session.open(block)
    _run(session, f.settings_frame(()) + b"".join(wire), pieces)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_frames(wire: bytes) -> None:
    _run(ServerSession(Limits()), wire, 3)
    _run(ServerSession(Limits()), f.PREFACE + wire, 3)
