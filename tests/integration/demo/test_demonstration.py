"""The demonstration as a user runs it, and that it fails when answers differ."""

import asyncio
import signal
import sys

import pytest

from proxy.demo.client import get
from proxy.demo.options import DemoOptions
from proxy.demo.processes import child
from proxy.demo.run import compare, drive, server_url
from proxy.demo.server import start
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


def _going_on(line: str) -> str | None:
    return line if line.startswith("Both go on.") else None


async def test_the_demonstration_ends_by_itself_with_a_table() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "demo", "--requests", "64", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    for words in (
        "64 clients, direct",
        "1 client, through Pillion",
        "128 of 128 answers through Pillion equal",
    ):
        assert words in text


async def test_kept_running_until_interrupted() -> None:
    command = (sys.executable, "-m", "proxy", "demo", "--requests", "8", "--keep")
    async with child(command, _going_on, start_s=PATIENCE_S) as demo:
        url = demo.ready.partition("curl ")[2].removesuffix("/v1/models")
        assert (await drive(url, [get(url, "/v1/models")], 1)).answers[0][0] == 200
        demo.process.send_signal(signal.SIGINT)
        assert await demo.process.wait() == 0
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await drive(url, [get(url, "/v1/models")], 1)


async def test_answers_that_differ_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    honest = await start()
    wrong = await start(DemoOptions(faults=("count=1; times=3; path=/v1",)))
    assert not await compare(honest.url, wrong.url, 70)
    assert await compare(honest.url, honest.url, 70)
    await honest.close()
    await wrong.close()
    shown = capsys.readouterr().out
    assert "137 of 140 answers through Pillion equal" in shown
    assert "140 of 140 answers through Pillion equal" in shown


async def test_the_server_as_a_process_stops_when_told() -> None:
    async with child(
        (sys.executable, "-m", "proxy.demo", "--item-s", "0.001"), server_url, start_s=PATIENCE_S
    ) as server:
        answers = (await drive(server.ready, [get(server.ready, "/health")], 1)).answers
        server.process.terminate()
        assert await server.process.wait() == 0
    assert answers == [(200, b"ok")]
