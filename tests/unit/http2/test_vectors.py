"""Writing many pieces at once, without keeping a read buffer."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from proxy.http2.vectors import descriptor, unsent, write_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Transport(asyncio.Transport):
    def __init__(self, *, waiting: int = 0, is_closing: bool = False) -> None:
        super().__init__()
        self.pieces: list[bytes | memoryview] = []
        self._waiting = waiting
        self._is_closing = is_closing

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def is_closing(self) -> bool:
        return self._is_closing

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.pieces += [bytes(data) if isinstance(data, bytearray) else data for data in list_of_data]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_what_is_left_behind_the_bytes_that_were_sent() -> None:
    pieces: list[bytes | memoryview] = [b"head", memoryview(b"data"), b"", b"tail"]
    assert unsent(pieces, 12) == []
    assert unsent(pieces, 0) == [b"head", b"data", b"tail"]
    assert [bytes(piece) for piece in unsent(pieces, 2)] == [b"ad", b"data", b"tail"]
    assert [bytes(piece) for piece in unsent(pieces, 4)] == [b"data", b"tail"]
    assert [bytes(piece) for piece in unsent(pieces, 7)] == [b"a", b"tail"]


def test_what_is_left_does_not_refer_to_memory_that_is_used_again() -> None:
    memory = bytearray(b"read buffer")
    kept = b"immutable"
    rest = unsent([memoryview(memory), memoryview(kept)], 5)
    memory.clear()  # BufferError if anything referred to it
    assert rest[0] == b"buffer"
    assert isinstance(rest[1], memoryview)
    assert rest[1].obj is kept


def test_all_leaves_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport()
    write_pieces(transport, ends[0].fileno(), [b"head", memoryview(bytearray(b"data"))])
    assert ends[1].recv(100) == b"headdata"
    assert transport.pieces == []


def test_the_transport_gets_what_the_socket_does_not_take(ends: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport()
    size = 8 << 20
    write_pieces(transport, ends[0].fileno(), [b"head", memoryview(bytearray(size))])
    (rest,) = transport.pieces
    assert isinstance(rest, bytes)
    assert 0 < len(rest) < size
    write_pieces(transport, ends[0].fileno(), [b"full"])
    assert transport.pieces[1:] == [b"full"]


def test_more_pieces_than_the_kernel_takes(ends: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport()
    write_pieces(transport, ends[0].fileno(), [b"x"] * 1025)
    assert len(ends[1].recv(2000)) == 1024
    assert transport.pieces == [b"x"]


@pytest.mark.parametrize("transport", [Transport(waiting=1), Transport(is_closing=True)])
def test_nothing_overtakes_what_waits_nor_follows_the_end(
    ends: tuple[socket.socket, socket.socket], transport: Transport
) -> None:
    write_pieces(transport, ends[0].fileno(), [b"data"])
    assert transport.pieces == [b"data"]
    with pytest.raises(BlockingIOError):
        ends[1].recv(1)


def test_a_broken_socket_is_the_transport_s_to_notice(ends: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport()
    ends[1].close()
    write_pieces(transport, ends[0].fileno(), [b"data"])
    assert transport.pieces == [b"data"]


def test_without_a_descriptor_the_transport_writes() -> None:
    transport = Transport()
    write_pieces(transport, -1, [b"data"])
    assert transport.pieces == [b"data"]


def test_the_descriptor_of_a_transport(ends: tuple[socket.socket, socket.socket]) -> None:
    class Of(asyncio.BaseTransport):
        pass

    assert descriptor(Of()) == -1
    assert descriptor(Of({"socket": ends[0]})) == ends[0].fileno()
    assert descriptor(Of({"socket": ends[0], "ssl_object": object()})) == -1
