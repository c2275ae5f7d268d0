"""The demo server over a real socket: costs, models, connections and faults as a client sees them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from proxy.demo.models import sample_images
from proxy.demo.options import DEFAULT_MODELS, DemoOptions, ModelSpec
from proxy.demo.server import DemoServer, start
from tests.support.raw_client import RawClient, request
from tests.support.waiting import until

Start = Callable[..., Awaitable[DemoServer]]

SUM = b"/v1/models/sum:predict"
ONE_ROW = b'{"instances":[[1,2]]}'


@pytest.fixture
async def started() -> AsyncIterator[Start]:
    """Starts servers; closes them when the test is over."""
    async with AsyncExitStack() as stack:

        async def start_one(**options: object) -> DemoServer:
            server = await start(DemoOptions(**options))  # type: ignore[arg-type]  # forwards any option
            stack.push_async_callback(server.close)
            return server

        yield start_one


async def test_predicts_what_the_digits_show(started: Start) -> None:
    server = await started()
    images = sample_images()[:5]
    body = json.dumps({"instances": [image for image, _ in images]}).encode()
    async with RawClient(server.url) as client:
        answer = await client.ask(b"POST", b"/v1/models/digits:predict", body)
    assert json.loads(answer.body) == {"predictions": [label for _, label in images]}
    assert (server.stats.calls, server.stats.items, server.stats.batch_sizes) == (1, 5, {5: 1})


async def test_one_connection_carries_many_requests_even_pipelined(started: Start) -> None:
    server = await started(fixed_s=0.001)
    async with RawClient(server.url) as client:
        await client.send(b"".join(request(b"POST", SUM, b'{"instances":[[%d]]}' % i) for i in range(5)))
        answers = [json.loads((await client.receive()).body)["predictions"] for _ in range(5)]
    assert answers == [[0], [1], [2], [3], [4]]
    assert server.stats.connections == 1


async def test_control_endpoints_are_not_counted(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.ask(b"GET", b"/health")
        shown = json.loads((await client.ask(b"GET", b"/demo/stats")).body)
    assert (shown["requests"], shown["calls"], shown["open_connections"]) == (1, 0, 1)


async def test_a_body_in_pieces_after_100_continue(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.send(
            b"POST %s HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (SUM, len(ONE_ROW))
        )
        assert (await client.receive(skip_interim=False)).status == 100
        await client.send(ONE_ROW[:7])
        await client.send(ONE_ROW[7:])
        assert (await client.receive()).body == b'{"predictions":[3.0]}'


@pytest.mark.parametrize(
    "head", [b"GET /health HTTP/1.0\r\n\r\n", b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"]
)
async def test_closes_when_the_client_asks_for_it(started: Start, head: bytes) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.send(head)
        assert (await client.read_to_end()).endswith(b"Connection: close\r\n\r\nok")


@pytest.mark.parametrize(
    "junk", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]
)
async def test_refuses_what_is_not_http(started: Start, junk: bytes) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.send(junk)
        assert b" 400 Bad Request\r\n" in await client.read_to_end()


async def test_a_chat_stream_ends_with_an_http_1_0_connection(started: Start) -> None:
    server = await started()
    body = b'{"messages":[{"content":"hello"}],"stream":true}'
    async with RawClient(server.url) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        assert (await client.read_to_end()).endswith(b"data: [DONE]\n\n")


async def test_a_slow_reader_holds_a_bulk_answer_back(started: Start) -> None:
    server = await started()
    async with RawClient(server.url, receive_buffer=4096) as client:
        await client.send(request(b"GET", b"/bytes/20000000"))
        assert len((await client.receive()).body) == 20_000_000
        assert (await client.ask(b"GET", b"/health")).body == b"ok"


# ----------------------------------------------------------------- costs
@pytest.mark.parametrize(("parallelism", "peak"), [(1, 1), (3, 3), (0, 6)])
async def test_as_many_batches_at_once_as_there_are_slots(
    started: Start, parallelism: int, peak: int
) -> None:
    server = await started(fixed_s=0.02, item_s=0.001, jitter=0.05, parallelism=parallelism)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(server.url)) for _ in range(6)]
        for client in clients:  # all are accepted before the first one computes
            await client.ask(b"GET", b"/health")
        answers = await asyncio.gather(*(client.ask(b"POST", SUM, ONE_ROW) for client in clients))
    assert all(answer.status == 200 for answer in answers)
    assert (server.stats.peak_executing, server.stats.executing, server.stats.queued) == (peak, 0, 0)


async def test_a_queued_call_is_dropped_when_its_client_leaves(started: Start) -> None:
    server = await started(fixed_s=0.5)
    async with RawClient(server.url) as first, RawClient(server.url) as third:
        await first.send(request(b"POST", SUM, ONE_ROW))
        async with RawClient(server.url) as second:
            await second.send(request(b"POST", SUM, ONE_ROW))
            await until(lambda: server.stats.queued == 1)
        await until(lambda: server.stats.open_connections == 2)
        await third.ask(b"POST", SUM, ONE_ROW)
        await first.receive()
    assert (server.stats.calls, server.stats.abandoned) == (2, 1)


async def test_executions_are_audited_by_key(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        for key in (b"a", b"b", b"a"):
            await client.ask(b"POST", SUM, ONE_ROW, b"Demo-Once: " + key)
        shown = json.loads((await client.ask(b"GET", b"/demo/stats")).body)
    assert (shown["once"], shown["repeated"]) == (2, 1)


async def test_reading_starts_after_the_handshake(started: Start) -> None:
    server = await started(handshake_s=0.02)
    async with RawClient(server.url) as client:
        await client.send(request(b"GET", b"/health"))
        assert server.stats.requests == 0
        assert (await client.receive()).status == 200


async def test_a_long_pipeline_is_served_in_order(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.send(
            request(b"POST", SUM, ONE_ROW, b"Demo-Fault: stall=0.001") + request(b"GET", b"/health") * 3000
        )
        assert (await client.receive()).body == b'{"predictions":[3.0]}'
        for _ in range(3000):
            assert (await client.receive()).body == b"ok"


async def test_a_connection_in_use_outlives_its_idle_time(started: Start) -> None:
    server = await started(keepalive_s=0.15, fixed_s=0.2)
    async with RawClient(server.url) as client:
        await client.send(request(b"POST", SUM, ONE_ROW) + request(b"GET", b"/health"))
        assert [(await client.receive()).status for _ in range(2)] == [200, 200]
    assert server.stats.connections == 1


async def test_an_idle_connection_is_closed(started: Start) -> None:
    server = await started(keepalive_s=0.15)
    async with RawClient(server.url) as client:
        assert (await client.ask(b"GET", b"/health")).status == 200
        assert await client.read_to_end() == b""


# ----------------------------------------------------------------- models
async def test_loading_takes_its_time_and_is_shared(started: Start) -> None:
    models = (*DEFAULT_MODELS, ModelSpec("cold", "sum", load_s=0.02))
    server = await started(models=models, load_on_demand=True)
    async with RawClient(server.url) as one, RawClient(server.url) as two:
        answers = await asyncio.gather(
            one.ask(b"POST", b"/v1/models/cold:predict", ONE_ROW),
            two.ask(b"POST", b"/v2/repository/models/cold/load"),
        )
        again = await one.ask(b"POST", b"/v2/repository/models/cold/load")
    assert [answer.status for answer in (*answers, again)] == [200, 200, 200]
    assert server.stats.loads == {"cold": 1}


# ----------------------------------------------------------------- faults
async def fault(server: DemoServer, words: bytes) -> bytes:
    """All that a client reads from a connection on which a fault closes it."""
    async with RawClient(server.url) as client:
        await client.send(request(b"POST", SUM, ONE_ROW, b"Demo-Fault: " + words))
        return await client.read_to_end()


async def test_faults_that_end_the_connection(started: Start) -> None:
    server = await started()
    whole = await fault(server, b"close-after")
    assert whole.endswith(b'{"predictions":[3.0]}')
    assert b"Connection: close" not in whole
    assert await fault(server, b"close-at=10") == whole[:10]
    assert b"HTTP/1.1" not in await fault(server, b"garbage")
    assert b"Content-Length: 24\r\n" in await fault(server, b"length=3")
    late = await fault(server, b"timeout-408=0.01")
    assert late.startswith(whole + b"HTTP/1.1 408 ")
    assert (await fault(server, b"close-after, count=1")).endswith(b'{"predictions":[3.0,3.0]}')
    assert server.stats.faults["close-after"] == 2


@pytest.mark.parametrize("words", [b"reset-at=0", b"reset-at=5"])
async def test_a_reset_is_a_reset(started: Start, words: bytes) -> None:
    server = await started()
    with pytest.raises(ConnectionResetError):
        await fault(server, words)


async def test_bytes_that_nobody_asked_for(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        await client.send(request(b"GET", b"/health", b"", b"Demo-Fault: unsolicited"))
        assert (await client.receive()).body == b"ok"
        assert (await client.receive()).body == b"stray"
        assert (await client.ask(b"GET", b"/health")).body == b"ok"


async def test_a_forced_status_computes_nothing(started: Start) -> None:
    server = await started(faults=("status=503; times=1; path=/v1",))
    async with RawClient(server.url) as client:
        assert (await client.ask(b"POST", SUM, ONE_ROW)).status == 503
        assert server.stats.calls == 0
        assert (await client.ask(b"POST", SUM, ONE_ROW)).status == 200


async def test_standing_faults_spare_the_control_endpoints(started: Start) -> None:
    server = await started()
    async with RawClient(server.url) as client:
        assert (await client.ask(b"PUT", b"/demo/faults", b"status=500")).status == 200
        assert (await client.ask(b"GET", b"/health")).status == 500
        assert (await client.ask(b"PUT", b"/demo/faults")).status == 200
        assert (await client.ask(b"GET", b"/health", b"", b"Demo-Fault: misspelt")).status == 200


async def test_a_poisoned_batch_costs_and_fails_as_one(started: Start) -> None:
    server = await started(fixed_s=0.001)
    async with RawClient(server.url) as client:
        answer = await client.ask(b"POST", SUM, b'{"instances":[[1],[-666]]}')
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "the computation failed"})
    assert server.stats.calls == 1


async def test_closing_drops_clients_and_work(started: Start) -> None:
    server = await started(fixed_s=60.0)
    async with RawClient(server.url) as client:
        await client.send(request(b"POST", SUM, ONE_ROW))
        await until(lambda: server.stats.executing == 1)
        await server.close()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.receive()
    assert server.stats.open_connections == 0
