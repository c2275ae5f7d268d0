"""The driver's parts: a client that keeps one request in flight, and children that say when they are ready."""

import os
import sys

import pytest

from proxy.demo.client import ClientConnection, post
from proxy.demo.options import DemoOptions
from proxy.demo.processes import ChildFailed, child
from proxy.demo.run import drive
from proxy.demo.server import start
from tests.support.scripted_upstream import Close, Expect, ScriptedUpstream, Send, response

SUM = "/v1/models/sum:predict"


async def test_each_request_is_sent_once_and_its_answer_kept_in_place() -> None:
    server = await start(DemoOptions(fixed_s=0.0005, parallelism=2))
    requests = [post(server.url, SUM, b'{"instances":[[%d]]}' % i) for i in range(40)]
    result = await drive(server.url, requests, 7)
    await server.close()
    assert result.answers == [(200, b'{"predictions":[%d.0]}' % i) for i in range(40)]
    assert result.latencies_s == sorted(result.latencies_s)
    assert len(result.latencies_s) == 40
    assert result.rate == 40 / result.elapsed_s
    assert (server.stats.calls, server.stats.connections) == (40, 7)


async def test_more_clients_than_requests() -> None:
    server = await start()
    result = await drive(server.url, [post(server.url, SUM, b'{"instances":[[1]]}')], 5)
    await server.close()
    assert [status for status, _ in result.answers] == [200]


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", response(b"long")[:-1]])
async def test_a_connection_that_breaks_ends_the_drive(reply: bytes) -> None:
    async with ScriptedUpstream([Expect(), Send(reply), Close()]) as upstream:
        with pytest.raises(ConnectionError):
            await drive(upstream.url, [post(upstream.url, "/", b"x")] * 2, 1)


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def number(line: str) -> int | None:
    return int(line) if line.isdigit() else None


async def test_a_child_runs_until_the_block_ends() -> None:
    talk = "import time; print('x' * 300_000); print(42); time.sleep(60)"
    async with child(python(talk), number, core=min(os.sched_getaffinity(0))) as started:
        assert started.ready == 42
        assert started.process.returncode is None
    assert started.process.returncode == -15


async def test_a_child_that_ignores_the_signal_is_killed() -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
    async with child(python(deaf), number, stop_s=0.1) as started:
        pass
    assert started.process.returncode == -9


async def test_a_child_that_fails_is_quoted() -> None:
    with pytest.raises(ChildFailed, match="no such luck"):
        async with child(python("raise SystemExit('no such luck')"), number):
            pass


async def test_a_child_that_keeps_silent_is_stopped() -> None:
    with pytest.raises(ChildFailed, match="not ready in time"):
        async with child(python("import time; time.sleep(60)"), number, start_s=0.3):
            pass


@pytest.mark.parametrize(
    "reads",
    [
        [response(b"one"), response(b"one"), response(b"two"), response(b"one")],
        [response(b"one"), response(b"one")[:20], response(b"one")[20:], response(b"one")],
        [response(b"one") + response(b"one"), response(b"one") + response(b"one")],
        [response(b"one")[:-1], response(b"one")[-1:] + response(b"one")[:-1], response(b"one")[-1:]],
        [response(b"one") + response(b"one")[:5], response(b"one")[5:], response(b"one")],
    ],
)
def test_answers_are_counted_however_they_are_cut_and_repeated(reads: list[bytes]) -> None:
    answers: list[tuple[int, bytes]] = []
    connection = ClientConnection(lambda _, status, body: answers.append((status, body)), lambda _: None)
    for data in reads:
        connection.data_received(data)
    bodies = b"".join(reads).split(b"\r\n\r\n")[1:]
    assert answers == [(200, body[:3]) for body in bodies]
