from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import BadReply, DeadlineExceeded, LeaseTimeout, QueueFull
from proxy.exchange import Call
from proxy.pooling.idle_time import REST_S
from tests.support.pool_rig import settle

if TYPE_CHECKING:
    from tests.unit.pooling.conftest import Rig


# ------------------------------------------------------------------ one call
async def test_a_call_gets_its_answer(rig: Rig) -> None:
    pool = rig()
    task = await pool.start(b"/infer")
    assert pool.state == (0, 1, 0, 0)
    pool.asked[0].answer()
    await settle()
    reply = task.result()
    assert (reply.status, reply.body) == (200, b"/infer")
    assert pool.state == (1, 0, 0, 0)
    assert pool.events.statuses == {200: 1}
    assert pool.events.counts == {"connected ok": 1, "waited": 1}


async def test_a_crowd_of_long_calls_is_dialed_for_to_the_last(rig: Rig) -> None:
    pool = rig()
    for _ in range(30):
        pool.begin(pool.call())
    await settle()
    assert pool.state == (0, 30, 0, 0), "no more than eight dials at once, but as many as calls wait"


async def test_the_spans_of_a_call_are_filled_in(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    call = Call(b"GET", b"/", ())
    task = pool.begin(call)
    await pool.wait(0.25)
    pool.dialer.accept()
    await settle()
    await pool.wait(0.5)
    pool.asked[0].answer()
    await settle()
    task.result()
    assert call.pool_s == pytest.approx(0.25)
    assert call.upstream_s == pytest.approx(0.5)


async def test_a_connection_is_reused(rig: Rig) -> None:
    pool = rig()
    [transport] = await pool.season()
    before = pool.events.counts["reused"]
    await pool.start(b"/again")
    assert transport.unanswered == [b"/again"]
    assert pool.events.counts["reused"] == before + 1


async def test_a_backend_is_trusted_only_after_a_rest(rig: Rig) -> None:
    pool = rig()
    await pool.start()
    first = pool.asked[0]
    first.answer()
    await pool.start()
    assert not first.unanswered, "it might be closing"
    pool.asked[0].answer()
    await pool.wait(REST_S)
    await pool.start()
    assert first.unanswered
    first.answer()


async def test_an_answer_may_close_the_connection(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].answer(b"Connection: close")
    await settle()
    assert task.result().status == 200
    assert pool.state == (0, 0, 0, 0)
    assert pool.events.counts["closed last"] == 1


# ------------------------------------------------------------------ waiting
async def test_a_freed_connection_goes_to_who_has_waited_longest(rig: Rig) -> None:
    pool = rig({"max": 1})
    await pool.season()
    await pool.start(b"/1")
    second, third = await pool.start(b"/2"), await pool.start(b"/3")
    assert pool.state == (0, 1, 0, 2)
    transport = pool.asked[0]
    transport.answer()
    await settle()
    assert transport.unanswered == [b"/2"]
    transport.answer()
    await settle()
    assert transport.unanswered == [b"/3"]
    transport.answer()
    await settle()
    assert (second.result().body, third.result().body) == (b"/2", b"/3")


async def test_a_newcomer_does_not_overtake(rig: Rig) -> None:
    pool = rig({"max": 1})
    [transport] = await pool.season()
    await pool.start(b"/1")
    await pool.start(b"/2")
    transport.answer()  # /2 has the connection, but has not run yet
    await pool.start(b"/3")
    assert transport.unanswered == [b"/2"]


async def test_the_wait_is_bounded(rig: Rig) -> None:
    pool = rig({"max": 1, "wait": "3s"})
    await pool.start()
    waiting = await pool.start()
    await pool.wait(2.9)
    assert not waiting.done()
    await pool.wait(0.1)
    with pytest.raises(LeaseTimeout) as caught:
        waiting.result()
    assert caught.value.retry_after_s == 1


async def test_a_deadline_ends_the_wait_sooner(rig: Rig) -> None:
    pool = rig({"max": 1, "wait": "3s"})
    await pool.start()
    waiting = await pool.start(deadline_s=0.2)
    await pool.wait(0.2)
    with pytest.raises(DeadlineExceeded):
        waiting.result()


async def test_the_queue_is_bounded(rig: Rig) -> None:
    pool = rig({"max": 1, "queue": 1})
    await pool.start()
    await pool.start()
    refused = await pool.start()
    with pytest.raises(QueueFull):
        refused.result()


async def test_a_connection_that_dies_while_handed_over_is_replaced(rig: Rig) -> None:
    pool = rig({"max": 1})
    [transport] = await pool.season()
    await pool.start(b"/1")
    second = await pool.start(b"/2")
    transport.answer()
    transport.hang_up()
    await settle()
    assert pool.asked[0] is not transport
    pool.asked[0].answer()
    await settle()
    assert second.result().body == b"/2"


async def test_a_broken_connection_makes_room_for_who_waits(rig: Rig) -> None:
    pool = rig({"max": 1})
    first, second = await pool.start(b"/1"), await pool.start(b"/2")
    pool.asked[0].send(b"garbage")
    await settle()
    with pytest.raises(BadReply):
        first.result()
    pool.asked[0].answer()
    await settle()
    assert second.result().body == b"/2"
