"""Endpoints that calls fail on: ejected, tried out, reinstated; and calls that are hedged."""

from __future__ import annotations

import pytest

from proxy.errors import BadReply
from tests.support.cluster_rig import ClusterRig, failures
from tests.support.raw_backend import Manners, RawBackend


# ------------------------------------------------------------------ ejection
async def test_failing_calls_eject_an_endpoint_and_a_trial_brings_it_back() -> None:
    async with RawBackend(Manners(status=500)) as bad, RawBackend() as good, ClusterRig(bad, good) as rig:
        await rig.up()
        while not rig.ejected[0]:
            await rig.call()
        assert rig.events.counts["ejected"] == 1
        before = sum(bad.executed.values())
        assert not failures(await rig.calls(20))
        assert sum(bad.executed.values()) == before
        rig.clock.advance(5.0)
        await rig.call()
        assert sum(bad.executed.values()) == before + 1, "one trial"
        assert rig.ejected[0]
        bad.manners.status = 200
        rig.clock.advance(10.0)
        assert (await rig.call()).status == 200
        assert rig.ejected == [False, False]


async def test_a_reinstated_endpoint_starts_slowly() -> None:
    async with RawBackend(Manners(status=500)) as bad, RawBackend() as good, ClusterRig(bad, good) as rig:
        await rig.up()
        while not rig.ejected[0]:
            await rig.call()
        bad.manners.status = 200
        rig.clock.advance(5.0)
        await rig.call()
        assert rig.cluster.snapshot()[0]["weight"] == 0.01
        before = sum(bad.executed.values())
        await rig.calls(40)
        assert sum(bad.executed.values()) - before <= 2
        rig.clock.advance(30.0)
        await rig.calls(40)
        assert sum(bad.executed.values()) - before > 5


async def test_the_only_endpoint_breaks_the_circuit_by_not_answering() -> None:
    async with (
        RawBackend(Manners(chatter=b"")) as backend,
        ClusterRig(backend, eject={"consecutive": 3}) as rig,
    ):
        await rig.up()
        backend.manners.garbage = True
        for _ in range(3):
            with pytest.raises(BadReply):
                await rig.call()
        assert rig.ejected == [True]
        assert rig.cluster.readiness()[1].endswith("ejected, calls to it fail")
        outcomes = await rig.calls(4)
        kinds = sorted(type(one).__name__ for one in outcomes)
        assert kinds == ["BadReply", "NoHealthyEndpoint", "NoHealthyEndpoint", "NoHealthyEndpoint"]
        backend.manners.garbage = False
        assert (await rig.call()).status == 200
        assert rig.ejected == [False]


async def test_flapping_health_does_not_fail_calls() -> None:
    async with RawBackend() as one, RawBackend() as other, ClusterRig(one, other) as rig:
        await rig.up()
        for round_ in range(20):
            one.manners.health = 200 if round_ % 2 else 503
            await rig.probe(33.0 if round_ % 5 == 0 else 1.0)
            assert not failures(await rig.calls(10))


async def test_health_that_returns_ends_an_ejection() -> None:
    async with RawBackend() as one, RawBackend() as other, ClusterRig(one, other) as rig:
        await rig.up()
        await one.stop()
        for _ in range(4):
            await rig.calls(10)
            await rig.probe(1.0)
        await one.start()
        await rig.up()
        assert rig.ejected == [False, False]


async def test_a_short_absence_ends_with_the_next_probe() -> None:
    async with (
        RawBackend() as backend,
        ClusterRig(backend, health={"fall": 10}, retry={"attempts": 1}) as rig,
    ):
        await rig.up()
        await backend.stop()
        while not rig.ejected[0]:
            await rig.calls(5)
        await rig.probe(1.0)
        assert rig.health == ["failing"]
        await backend.start()
        await rig.probe(1.0)
        assert rig.ejected == [False]
        assert not failures(await rig.calls(10))


# ------------------------------------------------------------------ hedging
async def test_a_slow_call_is_hedged() -> None:
    async with (
        RawBackend() as one,
        RawBackend() as other,
        ClusterRig(one, other, hedge={"mode": "p95", "share": "100%"}) as rig,
    ):
        await rig.learn()
        one.manners.stuck_once = True
        assert not failures(await rig.calls(4))  # whichever is stuck may be hedged
        assert not one.manners.stuck_once
        assert rig.events.counts["hedged"] >= 1


async def test_what_is_not_idempotent_is_not_hedged() -> None:
    async with (
        RawBackend() as one,
        RawBackend() as other,
        ClusterRig(one, other, hedge={"mode": "p95"}) as rig,
    ):
        await rig.up()
        for _ in range(8):
            await rig.calls(8, idempotent=False)
        assert not rig.events.counts["hedged"]
