"""Judges what a server sends back, frame by frame."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING

from proxy.http2 import frames as f
from proxy.http2.errors import describe

if TYPE_CHECKING:
    from tests.support.http2_cases import Case, Expect

__all__ = ("HANDSHAKE", "PROBE", "client_bytes", "is_answered", "is_met", "parse")

HANDSHAKE = f.PREFACE + f.settings_frame(()) + f.settings_ack()
PROBE = b"are you?"


def client_bytes(case: Case) -> tuple[bytes, bytes]:
    """What the client sends first, and what once stream 1 is answered, the closing probe included."""
    opening = (b"" if case.raw else HANDSHAKE) + case.sends
    probe = f.ping_frame(PROBE, ack=False) if case.expects.what in {"nothing", "answer", "data"} else b""
    return (opening, case.then + probe) if case.then else (opening + probe, b"")


def is_answered(received: list[f.Frame]) -> bool:
    """Whether the head of an answer on stream 1 has come."""
    return any(kind == f.HEADERS and stream_id == 1 for kind, _, stream_id, _ in received)


def parse(wire: bytes) -> list[f.Frame]:
    """Every whole frame in `wire`."""
    return list(f.FrameReader(f.MAX_FRAME_SIZE).feed(wire))


def is_met(expects: Expect, received: list[f.Frame]) -> bool:
    """Whether the frames that came back are what the case wants."""
    goaway = [describe(unpack(">I", payload[4:8])[0]) for kind, _, _, payload in received if kind == f.GOAWAY]
    reset = [
        describe(unpack(">I", payload)[0])
        for kind, _, stream_id, payload in received
        if kind == f.RST_STREAM and stream_id == expects.stream_id
    ]
    answered = any(kind == f.HEADERS and stream_id == expects.stream_id for kind, _, stream_id, _ in received)
    sizes = tuple(len(payload) for kind, _, _, payload in received if kind == f.DATA)
    acks = sum(kind == f.SETTINGS and flags == f.ACK for kind, flags, _, _ in received)
    lives = not goaway and not reset and _acked(received, PROBE)
    verdicts = {
        "goaway": bool(goaway) and goaway[-1] in expects.codes,
        "reset": not goaway and bool(reset) and reset[-1] in expects.codes,
        "goaway or reset": bool(set(expects.codes) & set(goaway + reset)),
        "answer": answered and lives,
        "data": sizes == expects.sizes and lives,
        "ping": _acked(received, b"12345678"),
        "settings ack": acks == 2,
        "nothing": lives,
    }
    return verdicts[expects.what]


def _acked(received: list[f.Frame], payload: bytes) -> bool:
    return (f.PING, f.ACK, 0, payload) in received
