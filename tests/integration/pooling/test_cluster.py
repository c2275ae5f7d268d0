from __future__ import annotations

import asyncio
from itertools import groupby

import pytest

from proxy.errors import ConnectFailed, NoHealthyEndpoint, Reset
from proxy.exchange import Call, Reply
from tests.support.cluster_rig import ClusterRig, failures
from tests.support.raw_backend import Manners, RawBackend
from tests.support.waiting import until

GONE = "http://127.0.0.1:1"  # nobody may listen there


ONE_TRY = {"attempts": 1}


# ------------------------------------------------------------------ one endpoint
async def test_a_call_reaches_the_endpoint() -> None:
    async with RawBackend() as backend, ClusterRig(backend) as rig:
        reply = await rig.call(b"/v1/models/m:predict")
        assert (reply.status, reply.body) == (200, b"/v1/models/m:predict")


async def test_a_call_need_not_wait_for_the_first_probe() -> None:
    async with RawBackend() as backend, ClusterRig(backend) as rig:
        assert rig.health == ["starting"]
        assert (await rig.call()).status == 200


async def test_readiness_follows_the_probes() -> None:
    backend = RawBackend(Manners(health=503))
    async with backend, ClusterRig(backend) as rig:
        assert rig.cluster.readiness() == (False, f"{backend.url}: not probed yet")
        await rig.told("status")
        assert rig.cluster.readiness() == (False, f"{backend.url}: status 503")
        backend.manners.health = 200
        await rig.up()
        assert rig.cluster.readiness() == (True, "")


async def test_an_unreachable_endpoint_says_so() -> None:
    async with ClusterRig(GONE, retry=ONE_TRY) as rig:
        with pytest.raises(NoHealthyEndpoint, match=r"127\.0\.0\.1:1") as caught:
            await rig.call()
        assert caught.value.status == 503
        assert caught.value.retry_after_s == 1
        await rig.probe()
        assert "127.0.0.1:1" in rig.cluster.readiness()[1]


async def test_a_server_error_of_the_only_endpoint_is_its_answer() -> None:
    backend = RawBackend(Manners(status=500))
    async with backend, ClusterRig(backend, retry={"attempts": 1}) as rig:
        await rig.up()
        for _ in range(20):
            assert (await rig.call()).status == 500
        assert rig.ejected == [False], "the only backend is not cut off for its words"


async def test_a_probe_has_a_connection_of_its_own() -> None:
    backend = RawBackend(Manners(delay_s=30.0))
    async with backend, ClusterRig(backend, pool={"max": 1}) as rig:
        task = await rig.call_later()
        await until(lambda: backend.connections == 1)
        backend.manners.delay_s = 0.0
        await rig.up()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_probes_can_be_turned_off() -> None:
    async with (
        RawBackend() as backend,
        ClusterRig(backend, health={"every": "0s"}, pool={"min": 2}) as rig,
    ):
        assert rig.cluster.readiness() == (True, "")
        rig.clock.advance(0.2)
        await until(lambda: backend.connections == 2)
        assert not rig.events.counts["probed ok"]


async def test_a_generic_endpoint_is_probed_by_connecting() -> None:
    async with RawBackend() as backend, ClusterRig(backend, protocol="generic") as rig:
        await rig.up()
        assert backend.executed == {}


async def test_an_endpoint_on_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "m.sock"
    async with RawBackend(path=str(path)) as backend, ClusterRig(backend) as rig:
        await rig.up()
        assert (await rig.call()).body == b"/infer"


async def test_a_healthy_endpoint_is_kept_warm() -> None:
    async with RawBackend() as backend, ClusterRig(backend, pool={"min": 3}) as rig:
        await rig.up()
        for _ in range(5):
            rig.clock.advance(0.1)
            await asyncio.sleep(0)
        await until(lambda: rig.cluster.snapshot()[0]["idle"] == 3)


# ------------------------------------------------------------------ restart
async def test_a_restart_of_the_only_endpoint_is_reported_clearly_and_survived() -> None:
    async with RawBackend() as backend, ClusterRig(backend, retry=ONE_TRY) as rig:
        await rig.up()
        await rig.calls(20)
        await backend.stop()
        outcomes = [one for one in await rig.calls(20) if isinstance(one, BaseException)]
        assert outcomes
        assert {type(one) for one in outcomes} <= {NoHealthyEndpoint}
        assert all(isinstance(one, NoHealthyEndpoint) and one.retry_after_s == 1 for one in outcomes)
        await rig.down()
        await backend.start()
        await rig.up()
        assert not failures(await rig.calls(20))
        alive = [is_alive for is_alive, _ in groupby(rig.sightings)]
        assert alive[-3:] == [True, False, True], "whoever wants to know hears of a restart"


async def test_a_down_endpoint_gets_one_call_at_a_time() -> None:
    backend = RawBackend(Manners(health=503, delay_s=0.0))
    async with backend, ClusterRig(backend) as rig:
        await rig.down()
        await rig.told("status 503")
        outcomes = await rig.calls(5)
        assert [isinstance(one, Reply) for one in outcomes].count(True) == 1
        refused = [one for one in outcomes if isinstance(one, BaseException)]
        assert all(isinstance(one, NoHealthyEndpoint) and "status 503" in str(one) for one in refused)


# ------------------------------------------------------------------ several endpoints
async def test_a_down_endpoint_that_is_vouched_for_takes_all_calls_and_is_probed_at_once() -> None:
    backend = RawBackend(Manners(health=503))
    async with backend, ClusterRig(backend, health={"fall": 1}) as rig:
        await rig.told("status 503")
        backend.manners.health = 200
        rig.cluster.vouch()
        assert rig.health == ["failing"]
        replies = await asyncio.gather(*(rig.call() for _ in range(5)))
        assert [reply.status for reply in replies] == [200] * 5
        rig.clock.advance(0.06)
        await until(lambda: rig.health == ["up"])
        rig.cluster.vouch()
        assert rig.health == ["up"]


async def test_calls_spread_over_the_endpoints() -> None:
    async with RawBackend() as one, RawBackend() as other, ClusterRig(one, other) as rig:
        await rig.up()
        assert not failures(await rig.calls(60))
        shares = [sum(backend.executed.values()) for backend in (one, other)]
        assert sum(shares) == 60
        assert min(shares) > 15


async def test_one_of_three_endpoints_is_killed() -> None:
    backends = [RawBackend(), RawBackend(), RawBackend()]
    one, two, three = backends
    async with one, two, three, ClusterRig(*backends, retry={"budget": "100%"}) as rig:
        await rig.up()
        await rig.calls(30)
        await two.stop()
        for _ in range(5):
            assert not failures(await rig.calls(30))
        while rig.health[1] != "down":
            await rig.probe(1.0)
        assert rig.health == ["up", "down", "up"]


async def test_a_restart_under_load_costs_no_idempotent_call_where_there_is_another_endpoint() -> None:
    async with RawBackend() as one, RawBackend() as other, ClusterRig(one, other) as rig:
        await rig.up()
        outcomes: list[Reply | BaseException] = []

        async def load() -> None:
            for _ in range(20):
                outcomes.extend(await rig.calls(10))

        async def restart() -> None:
            for _ in range(4):
                await until(lambda: len(outcomes) % 50 >= 20)
                await one.stop()
                await until(lambda: len(outcomes) % 50 < 20)
                await one.start()
                await rig.probe(0.2)

        loading = asyncio.get_running_loop().create_task(load())
        restarting = asyncio.get_running_loop().create_task(restart())
        await loading
        restarting.cancel()
        await asyncio.gather(restarting, return_exceptions=True)
        assert len(outcomes) == 200
        assert not failures(outcomes)


async def test_calls_in_flight_to_a_killed_endpoint_are_repeated_elsewhere() -> None:
    slow = RawBackend(Manners(delay_s=60.0))
    async with slow, RawBackend() as other, ClusterRig(slow, other, retry={"budget": "100%"}) as rig:
        await rig.up_except_delay(slow)
        targets = [b"/%d" % index for index in range(8)]
        tasks = [await rig.call_later(target) for target in targets]
        await until(lambda: sum(slow.asked[target] + other.executed[target] for target in targets) == 8)
        await slow.stop()
        assert not failures(await asyncio.gather(*tasks, return_exceptions=True))


async def test_a_call_that_kills_is_executed_once_more_than_there_are_attempts() -> None:
    manners = Manners(fatal=b"/poison")
    async with RawBackend(manners) as one, RawBackend(manners) as other, ClusterRig(one, other) as rig:
        await rig.learn()
        await rig.probe(0.5)  # the connections rest, and are taken again
        with pytest.raises(Reset):
            await rig.call(b"/poison")
        assert one.executed[b"/poison"] + other.executed[b"/poison"] == 3


async def test_what_is_not_idempotent_is_not_repeated() -> None:
    slow = RawBackend(Manners(delay_s=60.0))
    async with slow, ClusterRig(slow) as rig:
        await rig.up_except_delay(slow)
        task = await rig.call_later(idempotent=False)
        await until(lambda: slow.asked[b"/infer"] == 1)
        await slow.stop()
        with pytest.raises(Reset):
            await task


async def test_refused_connections_are_retried_for_every_call() -> None:
    async with RawBackend() as backend, ClusterRig(GONE, backend) as rig:
        outcomes = [await rig.call(idempotent=False) for _ in range(10)]
        assert not failures(outcomes)
        assert rig.events.counts["retried"] >= 1


async def test_unavailability_is_retried_elsewhere() -> None:
    async with RawBackend(Manners(status=503)) as full, RawBackend() as free, ClusterRig(full, free) as rig:
        await rig.up()
        while not rig.ejected[0]:
            assert (await rig.call()).status == 200
        assert sum(full.executed.values()) == 5
        assert rig.events.counts["retried"] == rig.events.counts["retry ok"] == 5


async def test_the_budget_ends_retries_that_do_not_help() -> None:
    roomy: dict[str, object] = {"max": 300}  # time stands still: no connection rests
    async with (
        RawBackend(Manners(status=503)) as full,
        RawBackend(Manners(status=503)) as other,
        ClusterRig(full, other, retry={"budget": "0%"}, eject={"consecutive": 0}, pool=roomy) as rig,
    ):
        await rig.up()
        statuses = {(await rig.call()).status for _ in range(150)}
        assert statuses == {503}
        assert rig.events.counts["retried"] == rig.events.counts["retry failed"] >= 100
        assert rig.events.counts["retry budget"] == 150 - rig.events.counts["retried"] > 0


async def test_unavailability_is_passed_on_for_calls_that_must_not_be_repeated() -> None:
    async with RawBackend(Manners(status=503)) as full, ClusterRig(full) as rig:
        await rig.up()
        assert (await rig.call(idempotent=False)).status == 503
        assert sum(full.executed.values()) == 1


async def test_the_same_endpoint_is_retried_after_a_pause() -> None:
    async with RawBackend(Manners(status=503)) as backend, ClusterRig(backend) as rig:
        await rig.up()
        task = await rig.call_later()
        await until(lambda: rig.events.counts["retried"] == 1)
        backend.manners.status = 200
        rig.clock.advance(0.25)
        assert (await task).status == 200


# ------------------------------------------------------------------ for operators
async def test_gauges_are_labelled_with_what_the_configuration_says() -> None:
    async with RawBackend() as backend, ClusterRig(backend) as rig:
        await rig.up()
        await rig.call()
        gauges = {name: dict(sampler()) for name, sampler in rig.cluster.gauges().items()}
        assert gauges == {
            "upstream_connections": {
                ("model", "http", "active"): 0,
                ("model", "http", "idle"): 1,
                ("model", "http", "connecting"): 0,
            },
            "endpoint_healthy": {("model", backend.url): 1.0},
            "endpoint_waiting": {("model", backend.url): 0},
            "endpoint_idle_limit_seconds": {("model", backend.url): 30.0},
            "endpoint_concurrency_limit": {("model", backend.url): 100},
        }


async def test_draining_leaves_the_connections_to_those_who_drain() -> None:
    async with RawBackend() as backend, ClusterRig(backend) as rig:
        await rig.cluster.drain(rig.clock.now())
        assert (await rig.call()).status == 200


async def test_a_stopped_cluster_answers_nobody() -> None:
    async with RawBackend() as backend, ClusterRig(backend) as rig:
        await rig.cluster.stop()
        with pytest.raises((NoHealthyEndpoint, ConnectFailed)):
            await rig.cluster.exchange(Call(b"GET", b"/", ()))
