"""Attacks on a listening port: each is ended or bounded, and a client beside it is answered all the while.

An attacker writes the same bytes again and again and reads, unless its attack is not to. What an attack may
hold in memory is looked at where it would pile up: in the connection's session, its socket and the ledger.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest

from proxy.exchange import Call, Reply
from proxy.http2 import frames as f
from proxy.http2.errors import ErrorCode
from tests.support.http2_cases import REQUEST, block
from tests.support.http2_peer import HANDSHAKE, parse
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.http2.conftest import Stage

MOST_ROUNDS = 10
PIECES = 400
HEAD = block(*REQUEST)
POST = block((b":method", b"POST"), *REQUEST[1:])
LARGE = 64 << 10
BOUND = 20 << 20
BOMB = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000  # one entry of 4 kB, which each 0xbe names again
SHUT = f.settings_frame(((f.SETTING_INITIAL_WINDOW_SIZE, 0),))


def head(stream_id: int, *, fields: bytes = HEAD, end: bool = True) -> bytes:
    return f.header_frames(stream_id, fields, 1 << 14, end_stream=end)


class Attack(NamedTuple):
    """What is sent for each of the stream identifiers 1, 3, 5, …; the GOAWAY that answers it, if any does."""

    piece: Callable[[int], bytes]
    opening: bytes = b""
    ends_with: ErrorCode | None = ErrorCode.ENHANCE_YOUR_CALM
    reads: bool = True


ATTACKS = {
    "rapid reset": Attack(lambda i: head(i) + f.reset_frame(i, ErrorCode.CANCEL)),
    "MadeYouReset by an empty window": Attack(lambda i: head(i, end=False) + f.window_update_frame(i, 0)),
    "MadeYouReset by data behind the end": Attack(lambda i: head(i) + f.frame(f.DATA, 0, i, b"x")),
    "HEADERS on a stream that was reset": Attack(
        lambda _: head(1), head(1, end=False) + f.window_update_frame(1, 0)
    ),
    "CONTINUATION without end": Attack(
        lambda _: f.frame(f.CONTINUATION, 0, 1, b"\x82" * 100), f.frame(f.HEADERS, 0, 1, HEAD)
    ),
    "empty CONTINUATION": Attack(lambda _: f.frame(f.CONTINUATION, 0, 1), f.frame(f.HEADERS, 0, 1, HEAD)),
    "SETTINGS": Attack(lambda _: f.settings_frame(()) * 20),
    "PING": Attack(lambda _: f.ping_frame(b"12345678", ack=False) * 20),
    "PING whose answers nobody reads": Attack(
        lambda _: f.ping_frame(b"12345678", ack=False) * 20, reads=False
    ),
    "PRIORITY": Attack(lambda _: f.frame(f.PRIORITY, 0, 1, bytes(5)) * 20),
    "empty DATA": Attack(lambda _: f.frame(f.DATA, 0, 1) * 20, head(1, fields=POST, end=False)),
    "unknown frames": Attack(lambda _: f.frame(0x42, 0, 0) * 20),
    "HPACK bomb": Attack(lambda i: head(i, fields=HEAD + BOMB + b"\xbe" * 200)),
    "a window over 2^31-1": Attack(
        lambda _: f.window_update_frame(0, f.MAX_WINDOW), ends_with=ErrorCode.FLOW_CONTROL_ERROR
    ),
    "more than the window": Attack(
        lambda _: f.frame(f.DATA, 0, 1, bytes(1 << 14)) * 20,
        head(1, fields=POST, end=False),
        ends_with=None,  # it costs the stream, and what is still on its way is ignored
    ),
    "tiny windows": Attack(lambda _: f.window_update_frame(1, 1) * 20, SHUT + head(1)),
    "windows that stay shut": Attack(head, SHUT, ends_with=None),
    "one byte of DATA, padded": Attack(
        lambda _: f.frame(f.DATA, f.PADDED, 1, b"\xff" + b"x" + bytes(255)) * 10,
        head(1, fields=POST, end=False),
        ends_with=None,
    ),
}


async def _answer(call: Call) -> Reply:
    if call.target == b"/" and call.method == b"GET":
        return Reply(200, (), bytes(LARGE))
    if call.method == b"POST":
        await asyncio.Event().wait()  # never reads the body
    return Reply(200, (), b"fine")


def _held(stage: Stage) -> int:
    """Bytes that the listener holds for its clients' sake."""
    links = stage.listener._links
    sessions = sum(len(piece) for link in links for piece in link.session._sender.out)
    sockets = sum(link.transport.get_write_buffer_size() for link in links)
    return sessions + sockets + stage.listener.ledger.used


async def _goaway(reader: asyncio.StreamReader) -> ErrorCode | None:
    """The code of the last GOAWAY before the connection's end."""
    wire = b""
    with suppress(ConnectionError):  # what it still sent met a closed socket
        while data := await reader.read(1 << 16):
            wire += data
    codes = [ErrorCode(int.from_bytes(payload[4:8])) for kind, *_, payload in parse(wire) if kind == f.GOAWAY]
    return codes[-1] if codes else None


async def _attack(attack: Attack, pieces: Iterator[bytes], writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # the proxy has had enough
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
            if attack.reads:
                await writer.drain()


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_bounded_and_harms_nobody_else(name: str, stage: Stage) -> None:
    attack = ATTACKS[name]
    stage.answer = _answer
    host, _, port = stage.listener.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    most = 0
    async with asyncio.timeout(100), stage.connect() as healthy, asyncio.TaskGroup() as tasks:
        writer.write(HANDSHAKE + attack.opening)
        ending = tasks.create_task(_goaway(reader)) if attack.reads else None
        ids = count(1, 2)
        for _ in range(MOST_ROUNDS if attack.ends_with is not None else 2):
            await _attack(attack, (attack.piece(next(ids)) for _ in range(PIECES)), writer)
            status, _fields, body, _ = await healthy.answer(healthy.request(b"GET", b"/healthy"))
            assert (status, body) == (200, b"fine")
            most = max(most, _held(stage))
            if ending is not None and ending.done():
                break
        if ending is None:
            ending = tasks.create_task(_goaway(reader))
        if attack.ends_with is None:
            writer.close()
        code = await ending
        assert code == attack.ends_with or (code is None and not attack.reads)  # it may be lost with the rest
        writer.close()
    assert most < BOUND


async def test_answers_that_wait_for_a_window_count_as_memory_in_use(stage: Stage) -> None:
    stage.answer = _answer
    ledger = stage.listener.ledger
    async with stage.connect() as client:
        client.writer.write(client.session.data_to_send() + SHUT + head(1) + head(3))
        await until(lambda: ledger.used == 2 * LARGE)
        client.writer.write(f.reset_frame(1, ErrorCode.CANCEL))
        await until(lambda: ledger.used == LARGE)
        client.writer.write(f.window_update_frame(0, LARGE) + f.window_update_frame(3, LARGE))
        await until(lambda: ledger.used == 0)
