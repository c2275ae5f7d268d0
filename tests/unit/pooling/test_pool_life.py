"""What ends calls and connections of a pool in time, what keeps it warm, and how it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import DeadlineExceeded, NoHealthyEndpoint, ReadTimeout, Reset
from tests.support.pool_rig import settle

if TYPE_CHECKING:
    from tests.unit.pooling.conftest import Rig


# ------------------------------------------------------------------ time-outs
async def test_a_silent_backend_is_given_up(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    task = await pool.start()
    await pool.wait(1.9)
    assert not task.done()
    await pool.wait(0.1)
    with pytest.raises(ReadTimeout):
        task.result()
    assert pool.events.counts["closed timeout"] == 1


async def test_the_deadline_of_a_call_comes_first(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    patient = await pool.start()
    hasty = await pool.start(deadline_s=0.5)
    await pool.wait(0.5)
    with pytest.raises(DeadlineExceeded):
        hasty.result()
    assert not patient.done()


async def test_each_call_has_its_own_time(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    first = await pool.start()
    await pool.wait(1.0)
    second = await pool.start()
    await pool.wait(1.0)
    assert first.done()
    assert not second.done()
    await pool.wait(1.0)
    assert second.done()


# ------------------------------------------------------------------ upkeep
async def test_idle_connections_are_closed_in_time(rig: Rig) -> None:
    pool = rig({"idle": "10s"})
    await pool.season(2)
    await pool.wait(9.9)
    assert pool.state[0] == 2
    await pool.wait(0.2)
    assert pool.state[0] == 0
    assert pool.events.counts["closed idle"] == 2


async def test_a_connection_is_used_up_by_requests(rig: Rig) -> None:
    pool = rig({"max_requests": 4})
    [transport] = await pool.season()
    assert transport.is_closed, "three rests, four calls"
    assert pool.events.counts["closed requests"] == 1


async def test_a_connection_that_grew_too_old_is_not_used(rig: Rig) -> None:
    pool = rig({"max_age": "1s", "idle": "30s"})
    task = await pool.start()
    await pool.wait(1.2)
    pool.asked[0].answer()
    await settle()
    task.result()
    assert pool.events.counts["closed age"] == 1


async def test_what_ran_out_just_now_is_not_taken(rig: Rig) -> None:
    pool = rig({"idle": "10s"})
    [transport] = await pool.season()
    pool.pool._stock.alarm.cancel()  # the alarm is late
    await pool.wait(10.0)
    await pool.start()
    assert transport.is_closed
    assert pool.asked


async def test_a_healthy_endpoint_is_kept_warm(rig: Rig) -> None:
    pool = rig({"min": 3})
    pool.pool.keep_warm()
    await pool.wait(1.0)
    assert pool.state == (3, 0, 0, 0)
    pool.dialer.open[0].hang_up()
    await pool.wait(1.0)
    assert pool.state == (3, 0, 0, 0)


async def test_spares_can_be_warmed_with_a_request(rig: Rig) -> None:
    pool = rig({"min": 2, "warm_with": "/warm"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    await pool.wait(0.1)
    assert [transport.unanswered for transport in pool.asked] == [[b"/warm"]] * 2
    for transport in pool.asked:
        transport.answer()
    await settle()
    assert pool.state == (2, 0, 0, 0)


async def test_a_warm_up_that_fails_or_streams_costs_only_its_connection(rig: Rig) -> None:
    pool = rig({"min": 1, "warm_with": "/warm", "connect": "1s"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    [first] = pool.asked
    first.hang_up()
    await pool.wait(0.2)
    [second] = pool.asked
    second.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    assert second.is_closed
    await pool.wait(0.2)
    [third] = pool.asked
    third.answer()
    await settle()
    assert pool.state == (1, 0, 0, 0)


async def test_closing_ends_a_warm_up(rig: Rig) -> None:
    pool = rig({"min": 1, "warm_with": "/warm"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    [transport] = pool.asked
    await pool.pool.close()
    assert transport.is_closed


async def test_mass_closing_is_reported(rig: Rig) -> None:
    pool = rig()
    transports = await pool.season(4)
    await pool.wait(0.1)
    for transport in transports:
        transport.hang_up()
    assert pool.troubles == 3


async def test_the_adaptive_limit_holds_calls_back(rig: Rig) -> None:
    pool = rig(concurrency={"mode": "adaptive", "least": 1, "most": 2})
    await pool.season(2)
    for _ in range(3):
        await pool.start()
    assert pool.state[1] == 2
    assert pool.state[3] == 1
    pool.asked[0].answer()
    await settle()
    assert pool.state[3] == 0


# ------------------------------------------------------------------ the end
async def test_closing_ends_everything(rig: Rig) -> None:
    pool = rig({"max": 1})
    busy, waiting = await pool.start(), await pool.start()
    await pool.pool.close()
    await settle()
    with pytest.raises(Reset):
        busy.result()
    with pytest.raises(NoHealthyEndpoint):
        waiting.result()
    late = await pool.start()
    with pytest.raises(NoHealthyEndpoint):
        late.result()


async def test_closing_cancels_dials(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    await pool.pool.close()
    assert pool.dialer.pending == []
    await settle()
    assert task.done()


async def test_what_comes_back_after_closing_is_not_kept(rig: Rig) -> None:
    pool = rig()
    [transport] = await pool.season()
    await pool.pool.close()
    assert transport.is_closed
    assert pool.events.counts["closed shutdown"] == 1


async def test_the_gauges_follow(rig: Rig) -> None:
    pool = rig({"max": 1})
    await pool.start()
    await pool.start()
    assert pool.pool.connections == {"active": 1, "idle": 0, "connecting": 0}
    assert (pool.pool.load, pool.pool.waiting, pool.pool.lease_limit) == (2, 1, 1)
    assert pool.pool.idle_limit_s == 30.0
