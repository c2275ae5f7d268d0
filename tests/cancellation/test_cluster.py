"""A caller leaves while its call is tried out, waits to be retried, or is hedged."""

from __future__ import annotations

import asyncio

from tests.support.cluster_rig import ClusterRig
from tests.support.pool_rig import settle
from tests.support.raw_backend import Manners, RawBackend
from tests.support.waiting import until


async def leave(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def load(rig: ClusterRig) -> list[int]:
    return [member.load for member in rig.cluster._members]


async def test_while_a_retry_waits() -> None:
    async with RawBackend(Manners(status=503)) as backend, ClusterRig(backend) as rig:
        await rig.up()
        task = await rig.call_later()
        await until(lambda: rig.events.counts["retried"] == 1)
        await leave(task)
        assert load(rig) == [0]
        assert sum(backend.executed.values()) == 1


async def test_while_an_endpoint_is_on_trial() -> None:
    async with RawBackend(Manners(health=503, delay_s=60.0)) as backend, ClusterRig(backend) as rig:
        backend.manners.delay_s = 0.0
        await rig.down()
        backend.manners.delay_s = 60.0
        task = await rig.call_later()
        await until(lambda: backend.asked[b"/infer"] == 1)
        await leave(task)
        assert not rig.cluster._members[0].ejection.is_on_trial
        assert load(rig) == [0]
        backend.manners.delay_s = 0.0
        assert (await rig.call()).status == 200, "the next trial may begin"


async def test_while_a_copy_is_under_way() -> None:
    async with (
        RawBackend() as one,
        RawBackend() as other,
        ClusterRig(one, other, hedge={"mode": "p95"}) as rig,
    ):
        await rig.learn()
        before = rig.events.counts["hedged"]
        one.manners.delay_s = other.manners.delay_s = 60.0
        task = await rig.call_later()
        await until(lambda: rig.events.counts["hedged"] > before)
        await leave(task)
        await settle()
        assert load(rig) == [0, 0]


async def test_while_a_probe_is_under_way() -> None:
    async with RawBackend(Manners(delay_s=60.0)) as backend:
        rig = ClusterRig(backend)
        await rig.cluster.start()
        rig.clock.advance(0.0)
        await until(lambda: bool(backend.peers))
        await rig.cluster.stop()
        assert not rig.clock.pending
        await until(lambda: not backend.peers)
