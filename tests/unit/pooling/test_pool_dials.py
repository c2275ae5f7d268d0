"""Dials of a pool: refused, backed off, bounded; addresses that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import ConnectFailed
from tests.support.pool_rig import settle

if TYPE_CHECKING:
    from tests.unit.pooling.conftest import Rig


# ------------------------------------------------------------------ dials
async def test_refused_dials_fail_their_calls(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    pool.dialer.refuse()
    await settle()
    with pytest.raises(ConnectFailed):
        task.result()
    assert pool.events.counts["connected connect_failed"] == 1
    assert pool.troubles == 1


async def test_after_refusals_calls_fail_fast_until_the_back_off_is_over(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    for _ in range(3):
        await pool.start()
    while pool.dialer.pending:
        pool.dialer.refuse()
        await settle()
    quick = await pool.start()
    with pytest.raises(ConnectFailed):
        quick.result()
    await pool.wait(5.0)
    await pool.start()
    assert len(pool.dialer.pending) == 1


async def test_waiting_calls_are_dialed_for_when_the_back_off_is_over(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    await pool.start()
    second = await pool.start(b"/2")
    pool.dialer.refuse()
    pool.dialer.refuse()
    third = await pool.start(b"/3")
    assert second.done()
    assert pool.dialer.pending == []
    await pool.wait(0.2)
    pool.dialer.accept()
    await settle()
    pool.asked[0].answer()
    await settle()
    assert third.result().body == b"/3"


async def test_at_most_eight_dials_at_once(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    for _ in range(20):
        await pool.start()
    assert len(pool.dialer.pending) == 8


async def test_a_connection_closed_at_birth_is_a_failed_dial(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    pool.dialer.accept().hang_up()
    await settle()
    with pytest.raises(ConnectFailed, match="at once"):
        task.result()
    assert pool.state == (0, 0, 0, 0)


async def test_addresses_that_are_gone_lose_their_connections(rig: Rig) -> None:
    pool = rig()
    await pool.season(2)
    task = await pool.start()
    assert pool.dialer.on_gone is not None
    pool.dialer.on_gone(frozenset({"192.0.2.9"}))
    assert pool.state == (1, 1, 0, 0)
    pool.dialer.on_gone(frozenset({"192.0.2.1"}))
    assert pool.state == (0, 1, 0, 0)
    pool.asked[0].answer()
    await settle()
    assert task.result().status == 200
    assert pool.state == (0, 0, 0, 0)
