"""The table of RFC 9113 cases against a listening port."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.http2 import frames as f
from tests.support.http2_cases import CASES, Case
from tests.support.http2_peer import client_bytes, is_met, parse

if TYPE_CHECKING:
    from tests.integration.http2.conftest import Stage

# A listener allows more than the session's own defaults.
ADAPTED = {"DATA above the largest size", "HEADERS above the largest size", "one stream more than allowed"}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.text not in ADAPTED],
    ids=lambda case: f"{case.section} {case.text}",
)
async def test_case(case: Case, stage: Stage) -> None:
    host, _, port = stage.listener.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(client_bytes(case))
    received = b""
    async with asyncio.timeout(10):
        while not is_met(case.expects, parse(received)):
            data = await reader.read(65_536)
            if not data:
                break
            received += data
    writer.close()
    assert is_met(case.expects, parse(received)), parse(received)


async def test_a_frame_above_the_announced_size(stage: Stage) -> None:
    host, _, port = stage.listener.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f.PREFACE + f.settings_frame(()) + f.frame(f.DATA, 0, 1, bytes(70_000))[:9])
    frames = parse(await reader.read())
    writer.close()
    assert f.parse_goaway(frames[-1][3])[1] == 0x6
