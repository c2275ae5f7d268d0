"""The table of RFC 9113 cases against a listening port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Call, Reply
from proxy.http2 import frames as f
from tests.support.http2_cases import BODY, CASES, Case
from tests.support.http2_peer import client_bytes, is_answered, is_met, parse
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.http2.conftest import Listen, Stage

# A listener allows more than the session's own defaults; these have tests of their own below.
ADAPTED = {"DATA above the largest size", "HEADERS above the largest size", "one stream more than allowed"}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.text not in ADAPTED],
    ids=lambda case: f"{case.section} {case.text}",
)
async def test_case(case: Case, stage: Stage) -> None:
    await _judge(case, stage)


async def test_one_stream_more_than_allowed(listen: Listen) -> None:
    (case,) = [case for case in CASES if case.text == "one stream more than allowed"]
    await _judge(case, await listen(limits={"inflight": 100}))


async def _judge(case: Case, stage: Stage) -> None:
    stage.answer = _answer
    first, then = client_bytes(case)
    async with asyncio.timeout(PATIENCE_S), _wire(stage) as (reader, writer):
        writer.write(first)
        received = b""
        if then:
            received = await _read(reader, received, is_answered)
            writer.write(then)
        received = await _read(reader, received, lambda frames: is_met(case.expects, frames))
        assert is_met(case.expects, parse(received)), parse(received)
        if case.expects.what == "goaway":
            assert not await reader.read()  # RFC 9113 §5.4.1: the connection is closed behind it


async def _answer(call: Call) -> Reply:
    return Reply(200, (), BODY if call.target == b"/body" else b"")


@asynccontextmanager
async def _wire(stage: Stage) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = stage.listener.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def _read(
    reader: asyncio.StreamReader, received: bytes, is_enough: Callable[[list[f.Frame]], bool]
) -> bytes:
    while not is_enough(parse(received)):
        data = await reader.read(65_536)
        if not data:
            break
        received += data
    return received


@pytest.mark.parametrize("kind", [f.DATA, f.HEADERS])
async def test_a_frame_above_the_announced_size(kind: int, stage: Stage) -> None:
    async with _wire(stage) as (reader, writer):
        writer.write(f.PREFACE + f.settings_frame(()) + f.frame(kind, 0, 1, bytes(70_000))[:9])
        frames = parse(await reader.read())
    assert f.parse_goaway(frames[-1][3])[1] == 0x6
