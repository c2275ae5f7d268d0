"""The generator on the demo server and on servers that misbehave; short spans, nothing timed is asserted."""

from typing import Literal

import pytest

from bench.generator.engine import generate
from bench.generator.schedule import poisson
from bench.generator.spec import LoadResult, LoadSpec
from proxy.demo.client import get, post
from proxy.demo.options import DemoOptions
from proxy.demo.server import DemoServer, start

SUM = "/v1/models/sum:predict"


async def load(
    server: DemoServer, requests: list[bytes], arrivals: Literal["closed", "constant", "poisson"] = "closed"
) -> LoadResult:
    spec = LoadSpec(
        url=server.url,
        requests=requests,
        connections=4,
        seconds=0.15,
        warm_up_s=0.0,
        patience_s=30.0,
        arrivals=arrivals,
        rate=400.0,
        is_verifying=True,
    )
    try:
        return await generate(spec)
    finally:
        await server.close()


async def test_a_closed_loop_asks_in_turn_and_checks_every_answer() -> None:
    server = await start(DemoOptions(fixed_s=0.001))
    result = await load(server, [post(server.url, SUM, b'{"instances":[[%d]]}' % i) for i in range(3)])
    assert result.answered == result.ok == server.stats.calls > 0
    assert (result.errors, result.statuses) == ({}, {"200": result.ok})
    assert server.stats.connections == 4


@pytest.mark.parametrize(("arrivals", "due"), [("constant", 60), ("poisson", len([*poisson(400, 0.15, 1)]))])
async def test_an_open_loop_sends_its_plan_whatever_happens(
    arrivals: Literal["constant", "poisson"], due: int
) -> None:
    server = await start(DemoOptions(fixed_s=0.02))  # too slow for 400 requests a second
    result = await load(server, [post(server.url, SUM, b'{"instances":[[1]]}')], arrivals)
    assert result.due == result.answered == server.stats.calls == due
    assert result.waited > 0
    assert result.is_open


async def test_errors_are_counted_by_kind() -> None:
    server = await start(DemoOptions(faults=("close-at=0; every=2", "status=503; every=3")))
    result = await load(server, [get(server.url, "/health")])
    assert result.errors.keys() == {"lost"}
    assert result.statuses.keys() == {"200", "503"}
    assert result.ok < result.answered


async def test_a_stray_answer_is_noticed() -> None:
    server = await start(DemoOptions(faults=("unsolicited; every=2",)))
    result = await load(server, [get(server.url, "/health")])
    assert result.errors.keys() & {"unsolicited", "different"}


async def test_nobody_there() -> None:
    server = await start()
    await server.close()
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await load(server, [get(server.url, "/")])
