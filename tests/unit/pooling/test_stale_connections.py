"""Connections that ended, or are about to, when a call is sent on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import Reset
from proxy.pooling.idle_time import LOOK_S, LOOKS, REST_S
from tests.support.pool_rig import settle

if TYPE_CHECKING:
    from tests.unit.pooling.conftest import Rig

TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


# ------------------------------------------------------------------ stale connections
@pytest.mark.parametrize("how", ["fin", "reset", "unasked bytes", "unnoticed fin"])
async def test_a_connection_that_ended_while_idle_is_never_used(rig: Rig, how: str) -> None:
    pool = rig()
    [transport] = await pool.season()
    actions = {
        "fin": transport.hang_up,
        "reset": lambda: transport.lose(ConnectionResetError()),
        "unasked bytes": lambda: transport.send(TIMED_OUT),
        "unnoticed fin": transport.hang_up_unnoticed,
    }
    actions[how]()
    task = await pool.start(b"/next")
    assert pool.asked[0] is not transport
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/next"


async def test_an_idempotent_call_on_a_dying_connection_is_repeated_on_a_new_one(rig: Rig) -> None:
    pool = rig()
    seasoned = await pool.season(2)
    task = await pool.start(b"/once")
    [dying] = pool.asked
    assert dying in seasoned
    dying.hang_up()
    await settle()
    [fresh] = pool.asked
    assert fresh not in seasoned, "the other idle one may be dying too"
    fresh.answer()
    await settle()
    assert task.result().body == b"/once"
    assert pool.events.counts["stale"] == 1


async def test_it_is_repeated_once_only(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.hang_up()
    await settle()
    pool.asked[0].hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_call_that_is_not_idempotent_is_not_repeated(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start(idempotent=False)
    dying.hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()
    assert pool.asked == []


async def test_a_call_is_not_repeated_once_its_answer_has_begun(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.send(b"HTTP/1.1 2")
    dying.hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_call_on_a_new_connection_is_not_repeated(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_408_that_closes_a_reused_connection_is_a_stale_end(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start(b"/once")
    dying.send(TIMED_OUT)
    await settle()
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/once"


async def test_a_408_on_a_new_connection_is_the_answer(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].send(TIMED_OUT)
    await settle()
    assert task.result().status == 408


async def test_a_call_that_must_not_be_repeated_avoids_long_idle_connections(rig: Rig) -> None:
    pool = rig({"max": 1})
    [old] = await pool.season()
    await pool.wait(3.0)
    task = await pool.start(b"/charge", idempotent=False)
    assert old.is_closed, "the full pool made room"
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/charge"
    assert pool.events.counts["closed room"] == 1


async def test_it_takes_one_that_rested_no_longer_than_others_have(rig: Rig) -> None:
    pool = rig({"max": 2})
    await pool.season(2)
    await pool.wait(2.0)
    await pool.start()
    pool.asked[0].answer()
    await pool.wait(1.5)
    await pool.start(idempotent=False)
    assert len(pool.asked) == 1
    assert len(pool.dialer.transports) == 2, "no new connection"


async def test_one_that_is_passed_over_is_the_proof_for_the_next_call(rig: Rig) -> None:
    pool = rig()
    await pool.season(2)
    await pool.wait(0.5)
    await pool.start(idempotent=False)
    assert len(pool.dialer.transports) == 3, "0.5 s were not proven"
    pool.asked[0].answer()
    await pool.wait(0.3)
    await pool.start(idempotent=False)
    assert len(pool.dialer.transports) == 3


async def test_it_may_follow_an_answer_directly(rig: Rig) -> None:
    pool = rig()
    [recent] = await pool.season()
    await pool.start(idempotent=False)
    assert recent.unanswered


async def test_after_a_breach_of_trust_it_may_not(rig: Rig) -> None:
    pool = rig({"max": 1})
    [liar] = await pool.season()
    liar.hang_up()
    await pool.season()
    first = await pool.start()
    careful = await pool.start(b"/charge", idempotent=False)
    used = pool.asked[0]
    used.answer()
    await settle()
    first.result()
    assert used.is_closed
    pool.asked[0].answer()
    await settle()
    assert careful.result().body == b"/charge"


async def test_a_repeated_call_that_is_cancelled_leaves_nothing(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.hang_up()
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert pool.state == (0, 0, 0, 0)


async def test_a_full_pool_waits_for_the_rests_that_bring_trust(rig: Rig) -> None:
    pool = rig({"max": 1})
    await pool.start(b"/0", idempotent=False)
    for number in (1, 2, 3):
        assert len(pool.dialer.transports) == number, "each rest begins after a call of its own"
        pool.asked[0].answer()
        waiting = await pool.start(b"/%d" % number, idempotent=False)
        for _ in range(LOOKS - 1):
            await pool.wait(LOOK_S)
        assert pool.state == (1, 0, 0, 1), "what rests is not closed"
        await pool.wait(LOOK_S)
    pool.asked[0].answer()
    await settle()
    assert waiting.result().body == b"/3"
    before = len(pool.dialer.transports)
    await pool.start(b"/4", idempotent=False)
    assert len(pool.dialer.transports) == before, "trusted"


async def test_a_call_that_waits_when_trust_is_earned_may_follow_an_answer_directly(rig: Rig) -> None:
    pool = rig({"max": 2})
    pool.dialer.is_eager = False
    await pool.start(b"/a", idempotent=False)
    pool.dialer.accept()
    await settle()
    waiting = await pool.start(b"/b", idempotent=False)
    upkeep = pool.pool._stock.upkeep
    for rests in (1, 2, 3):
        upkeep._used.survived(rests * REST_S, REST_S)
    upkeep.core.must_rest = False
    pool.asked[0].answer()
    await settle()
    pool.asked[0].answer()
    await settle()
    assert waiting.result().body == b"/b"
