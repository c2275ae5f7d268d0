"""A listener's socket file: left over, in use, something else, and gone again at the end."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from proxy.config.addresses import Address
from proxy.ingress.binding import UnixSocket
from tests.integration.http.conformance import Backend
from tests.support.stage import stage
from tests.support.wire import read_message, response

if TYPE_CHECKING:
    from pathlib import Path


async def _ask(path: Path) -> int:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = await read_message(reader)
    writer.close()
    await writer.wait_closed()
    return answer.status


async def test_a_socket_that_was_left_behind_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with Backend([response(b"ok")]) as backend, stage(backend.url, place=Address("", 0, str(path))):
        assert await _ask(path) == 200
    assert not path.exists()


async def test_a_socket_in_use_is_left_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    place = Address("", 0, str(path))
    async with Backend([response(b"ok")]) as backend, stage(backend.url, place=place):
        with pytest.raises(OSError, match="another process listens there"):
            UnixSocket(str(path))
        assert await _ask(path) == 200


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(OSError, match="something else than a socket"):
        UnixSocket(str(path))
    assert path.read_text(encoding="utf-8") == "precious"


def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot listen on unix:"):
        UnixSocket(str(tmp_path / "none" / "http.sock"))


def test_another_socket_at_the_same_path_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    first = UnixSocket(str(path))
    path.rename(tmp_path / "moved")
    with socket.socket(socket.AF_UNIX) as second:
        second.bind(str(path))
        first.remove()
        assert path.exists()
    path.unlink()
    first.remove()
    first.socket.close()
