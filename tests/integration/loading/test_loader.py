"""The loader: waiting, failing, cancelling, watching; with a backend that does what the test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import DeadlineExceeded, LoadFailed, ModelLoading, ProxyError, QueueFull
from proxy.loading.control.base import ControlError
from proxy.loading.policy import LoadingPolicy
from proxy.loading.slot import State
from tests.integration.loading.house import House, Open, fails, settle
from tests.unit.loading.worlds import GIB

if TYPE_CHECKING:
    from proxy.loading.actions import FailureKind


async def test_one_load_serves_all_who_wait(house: Open) -> None:
    home = await house()
    clients = [await home.request("a") for _ in range(3)]
    assert home.backend.asked.count("load a") == 1
    await home.backend.end("load a")
    await asyncio.gather(*clients)
    assert home.backend.asked[-1] == "warm a"
    assert home.client.is_loaded("a")
    assert ("loaded", "a", "demand", "ok") in home.events.seen
    assert home.events.seen.count(("cold", "a")) == 3
    assert home.events.seen.count(("waited", "a")) == 3


async def test_a_ready_model_makes_nobody_wait(house: Open) -> None:
    home = await house()
    await home.make_ready("a")
    assert (await home.request("a")).done()


async def test_what_is_not_managed_passes(house: Open) -> None:
    home = await house()
    assert not home.loader.is_managed("zzz")
    assert home.loader.find("zzz") is None


async def test_a_backend_that_answers_again_is_told_of_once_and_after_each_load() -> None:
    home = House()
    home.backend.listing_fails = ControlError("unreachable", "refused")
    await home.start()
    assert ("reached",) not in home.events.seen
    home.backend.listing_fails = None
    await home.pass_time(10)
    await home.pass_time(10)
    assert home.events.seen.count(("reached",)) == 1
    await home.make_ready("a")
    assert home.events.seen.count(("reached",)) == 2
    await home.loader.stop()


async def test_what_was_loaded_anew_is_told_of_before_anybody_is_let_through(house: Open) -> None:
    home = await house()
    client = await home.request("a")
    home.on_renewed = lambda name: home.events.seen.append(("renewed", name, str(client.done())))
    await home.backend.end("load a")
    await client
    assert ("renewed", "a", "False") in home.events.seen
    home.backend.states["b"] = "ready"
    await home.pass_time(10)
    assert ("renewed", "b", "True") in home.events.seen
    assert len([seen for seen in home.events.seen if seen[0] == "renewed"]) == 2


async def test_what_was_there_before_us_is_not_new() -> None:
    home = House("a")
    home.backend.states["a"] = "ready"
    await home.start()
    assert home.client.is_loaded("a")
    assert not home.renewed
    await home.loader.stop()


async def test_a_name_without_a_tag_is_the_latest_to_ollama(house: Open) -> None:
    home = await house("llama3:latest", "llama3:8b")
    assert home.loader.find("llama3") is None
    again = House("llama3:latest", "llama3:8b")
    again.backend.protocol = "ollama"
    await again.start()
    found = [again.loader.find(name) for name in ("llama3", "llama3:8b", "qwen", "")]
    assert [slot and slot.name for slot in found] == ["llama3:latest", "llama3:8b", None, None]
    await again.loader.stop()


async def test_evicts_then_loads(house: Open) -> None:
    home = await house(places=1)
    await home.make_ready("a")
    client = await home.request("b")
    assert home.state("a") is State.UNLOADING
    await home.backend.end("unload a")
    await home.backend.end("load b")
    await client


async def test_a_load_that_fails_is_told_to_everybody(house: Open) -> None:
    home = await house()
    clients = [await home.request("a") for _ in range(2)]
    await home.backend.end("load a", ControlError("refused", "bad weights"))
    for client in clients:
        error = await fails(client, LoadFailed)
        assert "bad weights" in str(error)
        assert error.retry_after_s == 1.0
    assert ("loaded", "a", "demand", "refused") in home.events.seen


async def test_a_warm_up_that_fails_is_a_load_that_failed(house: Open) -> None:
    home = await house()
    client = await home.request("a")
    home.backend.warm_fails = ControlError("refused", "warm-up says 500")
    await home.backend.end("load a")
    assert "warm-up says 500" in str(await fails(client, LoadFailed))
    assert not home.client.is_loaded("a")


async def test_an_answer_of_an_unexpected_shape_is_a_failure_not_a_crash(house: Open) -> None:
    home = await house()
    client = await home.request("a")
    await home.backend.end("load a", KeyError("name"))
    assert "unexpected answer" in str(await fails(client, LoadFailed))


async def test_who_cannot_be_served_in_time_comes_back_later_and_the_load_goes_on(house: Open) -> None:
    home = await house()
    error = await fails(await home.request("a", within=3.0), ModelLoading)
    assert error.retry_after_s == 10.0
    await home.pass_time(6)
    client = await home.request("a", within=5.0)
    await home.backend.end("load a")
    await client


async def test_a_full_waiting_room(house: Open) -> None:
    cold = LoadingPolicy().cold.model_copy(update={"queue": 1})
    home = await house(cold=cold)
    await home.request("a")
    error = await fails(await home.request("a"), QueueFull)
    assert error.retry_after_s == 10.0


async def test_a_model_that_can_never_fit(house: Open) -> None:
    home = await house("a", places=2)
    home.loader.planner.state.slot("a").cost.declare(10.0, 5 * GIB)
    error = await fails(await home.request("a"), ModelLoading)
    assert "no room" in str(error)
    assert error.retry_after_s is None


async def test_the_configured_span_ends_the_wait(house: Open) -> None:
    home = await house()
    client = await home.request("a")
    await home.pass_time(30)
    assert (await fails(client, ModelLoading)).retry_after_s == pytest.approx(3.0)


async def test_the_clients_own_deadline_ends_the_wait_as_such(house: Open) -> None:
    home = await house()
    client = await home.request("a", within=15.0)
    await home.pass_time(15)
    await fails(client, DeadlineExceeded)


async def test_leaving_takes_nobody_else_along(house: Open) -> None:
    home = await house()
    first, second = await home.request("a"), await home.request("a")
    first.cancel()
    await settle()
    assert first.cancelled()
    await home.backend.end("load a")
    await second


async def test_a_load_that_nobody_wants_makes_way(house: Open) -> None:
    home = await house()
    first = await home.request("a")
    first.cancel()
    await settle()
    second = await home.request("b")
    assert "cancelled a" in home.backend.asked
    await home.backend.end("unload a")
    await home.backend.end("load b")
    await second


async def test_a_load_that_hangs_is_given_up_and_unloaded(house: Open) -> None:
    patient = LoadingPolicy().cold.model_copy(update={"max_wait": 1e6})
    home = await house(cold=patient, control=LoadingPolicy().control.model_copy(update={"every": 1e6}))
    client = await home.request("a")
    await home.pass_time(601)
    assert "no answer for 600 s" in str(await fails(client, LoadFailed))
    assert "cancelled a" in home.backend.asked
    await home.backend.end("unload a")
    assert home.state("a") is State.UNLOADED


async def test_a_hung_load_that_cannot_be_undone_may_still_end(house: Open) -> None:
    patient = LoadingPolicy().cold.model_copy(update={"max_wait": 1e6})
    home = await house(cold=patient)
    client = await home.request("a")
    await home.pass_time(601)
    await fails(client, LoadFailed)
    home.backend.states["a"] = "loading"
    await home.backend.end("unload a", ControlError("unreachable", "no answer"))
    assert home.state("a") is State.LOADING
    home.backend.states["a"] = "ready"
    await home.pass_time(1)
    assert home.state("a") is State.READY


async def test_a_model_that_always_hangs_is_left_alone_for_a_while(house: Open) -> None:
    home = await house("a", "b")
    for _ in range(3):
        client = await home.request("a")
        await home.pass_time(601)
        await fails(client, ProxyError)
        await home.backend.end("unload a")
        await home.pass_time(60)
    assert home.state("a") is State.FAILED
    assert "no answer for 600 s" in str(await fails(await home.request("a"), LoadFailed))
    second = await home.request("b")
    await home.backend.end("load b")
    await second


@pytest.mark.parametrize(
    ("kind", "is_asked_again"), [("refused", False), ("unreachable", True), ("timeout", True)]
)
async def test_an_unload_that_fails(house: Open, kind: FailureKind, is_asked_again: bool) -> None:
    home = await house(places=1)
    await home.make_ready("a")
    await home.request("b")
    await home.backend.end("unload a", ControlError(kind, "no"))
    assert home.backend.asked.count("unload a") == 1
    await home.pass_time(10)
    assert (home.backend.asked.count("unload a") == 2) is is_asked_again


async def test_who_only_observes_passes_every_answer_on(house: Open) -> None:
    home = await house(mode="observe")
    home.backend.states["a"] = "ready"
    await home.pass_time(10)
    assert not home.loader.is_lost(home.client.slot("a"), 404, b"cold")


async def test_a_dialect_trap_reloads_the_model(house: Open) -> None:
    home = await house()
    await home.make_ready("a")
    slot = home.client.slot("a")
    assert not home.loader.is_lost(slot, 404, b"no such path")
    home.backend.states["a"] = "unloaded"
    assert home.loader.is_lost(slot, 404, b"cold")
    assert home.loader.is_lost(slot, 404, b"cold"), "another call that was under way"
    client = await home.request("a")
    assert home.loader.is_lost(slot, 404, b"cold"), "and one that hears of it while it is loaded again"
    await home.backend.end("load a")
    await client
