"""The loader: waiting, failing, cancelling, watching; with a backend that does what the test says."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import DeadlineExceeded, LoadFailed, ModelLoading, ProxyError, QueueFull
from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError
from proxy.loading.gauges import samplers
from proxy.loading.history import History
from proxy.loading.loader import Loader
from proxy.loading.policy import HistoryPolicy, LoadingPolicy
from proxy.loading.predictor import Forecast
from proxy.loading.slot import State
from proxy.loading.tasks import Tasks
from proxy.timing import NEVER, Deadline
from tests.integration.loading.clients import Client
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.loading.worlds import GIB, model, policy

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.loading.actions import FailureKind

WALL = 1_700_000_000.0


class Backend:
    """A control whose loads and unloads end when the test says; it is also the way to reach it."""

    protocol = "fake"
    can_unload = True
    can_cancel = True

    def __init__(self, *names: str) -> None:
        self.states: dict[str, str] = dict.fromkeys(names, "unloaded")
        self.asked: list[str] = []
        self.pending: dict[str, asyncio.Future[None]] = {}
        self.listing_fails: Exception | None = None
        self.warm_fails: ControlError | None = None
        self.has_control = True
        self.is_closed = False

    async def connect(self) -> Backend | None:
        self.asked.append("connect")
        if self.listing_fails:
            raise self.listing_fails
        return self if self.has_control else None

    async def warm(self, name: str) -> None:
        self.asked.append(f"warm {name}")
        if self.warm_fails:
            raise self.warm_fails

    async def close(self) -> None:
        self.is_closed = True

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        self.asked.append("list")
        if self.listing_fails:
            raise self.listing_fails
        return {name: Report(state) for name, state in self.states.items()}  # type: ignore[arg-type]  # states

    async def load(self, name: str) -> int:
        await self._step("load", name)
        self.states[name] = "ready"
        return 0

    async def unload(self, name: str) -> None:
        await self._step("unload", name)
        self.states[name] = "unloaded"

    def is_not_ready(self, status: int, body: bytes) -> bool:
        return status == 404 and body == b"cold"

    async def _step(self, verb: str, name: str) -> None:
        self.asked.append(f"{verb} {name}")
        future = self.pending[f"{verb} {name}"] = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError:
            self.asked.append(f"cancelled {name}")
            raise

    async def end(self, step: str, error: Exception | None = None) -> None:
        """Let a load or unload end, once it has begun."""
        await until(lambda: step in self.pending)
        future = self.pending.pop(step)
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        await settle()


class Events:
    """What was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def managed(self, name: str) -> None:
        pass

    def loaded(self, name: str, cause: str, result: str, span_s: float) -> None:
        self.seen.append(("loaded", name, cause, result))

    def cold(self, name: str) -> None:
        self.seen.append(("cold", name))

    def waited(self, name: str, span_s: float) -> None:
        self.seen.append(("waited", name))


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class House:
    """A loader, its backend, its clock, and the clients that wait."""

    def __init__(self, *names: str, places: int = 2, past: History | None = None, **changes: object) -> None:
        names = names or ("a", "b", "c")
        self.clock = FakeClock()
        self.backend = Backend(*names)
        self.events = Events()
        self.renewed: list[str] = []
        self.on_renewed: Callable[[str], None] = self.renewed.append
        self.policy: LoadingPolicy = policy(
            budget=places * GIB, models={name: model() for name in names}, **changes
        )
        self.history = past or History()
        self.loader = Loader(
            self.policy,
            self.history,
            self.backend,
            self.events,
            clock=self.clock,
            wall=lambda: WALL,
            renewed=self._renew,
            reached=lambda: self.events.seen.append(("reached",)),
        )
        self.client = Client(self.loader, self.clock)
        self.clients: list[asyncio.Task[None]] = []

    def _renew(self, name: str) -> None:
        self.on_renewed(name)

    async def start(self) -> House:
        await self.loader.start()
        await settle()
        return self

    async def request(self, name: str, within: float = 0.0) -> asyncio.Task[None]:
        """A client asks; the task ends when it may go on."""
        deadline = Deadline(self.clock.now() + within) if within else NEVER
        task = asyncio.get_running_loop().create_task(self.client.ask(name, deadline))
        self.clients.append(task)
        await settle()
        return task

    async def make_ready(self, name: str) -> None:
        client = await self.request(name)
        await self.backend.end(f"load {name}")
        await client
        self.client.end(name, 0.1)

    async def pass_time(self, span: float) -> None:
        self.clock.advance(span)
        await settle()

    def state(self, name: str) -> State:
        return self.loader.planner.state.slot(name).state


Open = Callable[..., Coroutine[object, object, House]]


@pytest.fixture
async def house() -> AsyncIterator[Open]:
    """Builds started houses; stops them when the test is over."""
    built: list[House] = []

    async def build(*names: str, **changes: object) -> House:
        one = House(*names, **changes)  # type: ignore[arg-type]  # forwards any option
        built.append(one)
        return await one.start()

    yield build
    for one in built:
        await one.loader.stop()
        for client in one.clients:
            client.cancel()
        await asyncio.gather(*one.clients, return_exceptions=True)
        assert one.backend.is_closed


async def fails(client: asyncio.Task[None], kind: type[ProxyError]) -> ProxyError:
    with pytest.raises(kind) as caught:
        await client
    return caught.value


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


async def test_a_dialect_trap_reloads_the_model(house: Open) -> None:
    home = await house()
    await home.make_ready("a")
    slot = home.client.slot("a")
    assert not home.loader.is_lost(slot, 404, b"no such path")
    home.backend.states["a"] = "unloaded"
    assert home.loader.is_lost(slot, 404, b"cold")
    assert not home.loader.is_lost(slot, 404, b"cold"), "it is known by now"
    client = await home.request("a")
    await home.backend.end("load a")
    await client


class TestWatching:
    async def test_sees_foreign_loads_and_restarts(self, house: Open) -> None:
        home = await house(mode="predictive", places=3)
        home.backend.states |= {"a": "ready", "b": "ready"}
        await home.pass_time(10)
        assert home.client.is_loaded("a")
        await home.request("a")
        home.client.end("a", 0.1)
        home.backend.states |= {"a": "unloaded", "b": "unloaded"}
        await home.pass_time(10)
        assert home.backend.asked[-1] == "load a", "what was used is loaded again"

    async def test_looks_more_often_while_someone_else_loads(self, house: Open) -> None:
        home = await house()
        home.backend.states["a"] = "loading"
        await home.pass_time(10)
        looks = home.backend.asked.count("list")
        await home.pass_time(0.5)
        assert home.backend.asked.count("list") == looks + 1

    async def test_an_unreachable_backend_is_asked_again(self) -> None:
        home = House()
        home.backend.listing_fails = ControlError("unreachable", "refused")
        await home.start()
        assert home.loader.protocol == ""
        home.backend.listing_fails = None
        await home.pass_time(10)
        assert home.loader.protocol == "fake"
        home.backend.listing_fails = TypeError("odd")
        await home.pass_time(10)
        assert home.loader.is_managed("a")
        await home.loader.stop()

    async def test_before_it_answers_nothing_can_be_loaded(self) -> None:
        home = House(preload=("a",))
        home.backend.listing_fails = ControlError("unreachable", "refused")
        await home.start()
        home.loader.load("a")
        await settle()
        assert ("loaded", "a", "manual", "unreachable") in home.events.seen
        await home.loader.stop()

    async def test_a_budget_that_rests_on_guesses_is_warned_of_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        home = House("a", "b")
        home.policy.models.clear()
        await home.start()
        await home.pass_time(30)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "not the size of 2 models (a, b): each counts as 1GiB" in warnings[0]
        await home.loader.stop()

    async def test_a_backend_without_control_is_left_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        home = House(preload=("a",))
        home.backend.has_control = False
        assert not home.loader.readiness()[0]
        await home.start()
        assert home.loader.readiness()[0], "what cannot be loaded keeps nobody waiting"
        assert "offers no way to load models" in caplog.text
        await home.pass_time(100)
        assert home.backend.asked == ["connect"]
        assert home.loader.protocol == "none"
        await home.loader.stop()


class TestHistory:
    def kept(self, path: Path) -> dict[str, Any]:
        return {"history": HistoryPolicy().model_copy(update={"file": str(path), "every": 60.0})}

    async def test_is_written_now_and_then_and_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "history.json"
        home = await House(**self.kept(path)).start()
        await home.make_ready("a")
        await home.pass_time(60)
        await until(path.exists)
        path.unlink()
        await home.loader.stop()
        assert json.loads(path.read_bytes())["models"]["a"]["cost"]["samples"] == 1

    async def test_starts_warm_from_it(self, tmp_path: Path) -> None:
        path = tmp_path / "history.json"
        home = await House(**self.kept(path)).start()
        await home.make_ready("b")
        await home.loader.stop()
        again = await House(mode="predictive", **self.kept(path)).start()
        assert again.backend.asked[-1] == "load b"
        await again.loader.stop()

    async def test_an_unreadable_one_is_set_aside(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "history.json"
        path.write_text("{]")
        home = await House(**self.kept(path)).start()
        assert "history not usable" in caplog.text
        assert (tmp_path / "history.json.unreadable").read_text() == "{]"
        await home.loader.stop()

    async def test_a_disk_that_refuses_costs_the_snapshot_alone(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("")
        home = await House(**self.kept(tmp_path / "file" / "history.json")).start()
        await home.loader.stop()
        assert "history not written" in caplog.text


class TestOperator:
    async def test_loads_unloads_and_pins(self, house: Open) -> None:
        home = await house()
        assert home.loader.load("a") == ""
        await settle()
        await home.backend.end("load a")
        assert home.loader.load("a") == "loaded already"
        home.loader.pin("a", is_pinned=True)
        assert home.loader.snapshot().models[0].pinned
        assert home.loader.unload("a") == ""
        await settle()
        await home.backend.end("unload a")
        assert home.loader.unload("a") == "not loaded"
        assert [d.action for d in home.loader.why("a")] == ["unload", "pin", "ready", "load"]

    async def test_may_not_while_observing(self, house: Open) -> None:
        home = await house(mode="observe")
        assert "loads nothing" in home.loader.load("a")
        assert "unloads nothing" in home.loader.unload("a")
        assert home.loader.readiness() == (True, "")

    async def test_is_ready_once_the_preloads_are(self, house: Open) -> None:
        home = await house(preload=("a", "c"))
        assert home.loader.readiness() == (False, "not loaded yet: a, c")
        await home.backend.end("load a")
        await home.backend.end("load c", ControlError("missing", "gone"))
        assert home.loader.readiness()[0]

    async def test_sees_everything(self, house: Open) -> None:
        home = await house()
        await home.make_ready("a")
        report = home.loader.snapshot()
        assert (report.mode, report.protocol, report.used) == ("demand", "fake", GIB)
        assert [(m.name, m.state) for m in report.models] == [
            ("a", "ready"),
            ("b", "unloaded"),
            ("c", "unloaded"),
        ]
        assert report.models[0].loads_measured == 1
        assert [d.action for d in report.decisions] == ["ready", "load"]

    async def test_predictions_are_reported(self, house: Open) -> None:
        home = await house("a", "b", places=9, mode="predictive")
        planner = home.loader.planner
        now = home.clock.now() + home.loader.epoch
        planner.state.ledger.open(Forecast("a", "periodic", now, now + 9, 0.5), now, 4.0)
        planner.state.ledger.gone("a")
        prediction = home.loader.snapshot().predictions["periodic"]
        assert (prediction.wasted, prediction.precision, prediction.wasted_s) == (1, 0.0, 4.0)
        assert prediction.brier == 0.25
        rows = {name: list(read()) for name, read in samplers(planner).items()}
        assert rows["predictions_total"] == [(("periodic", "wasted"), 1)]
        assert rows["prediction_seconds_total"] == [
            (("saved",), 0.0),
            (("wasted",), 4.0),
            (("forgone",), 0.0),
        ]
        assert (("a", "unloaded"), 1.0) in rows["model_state"]
        assert rows["model_budget_bytes"] == [(("total",), 9 * GIB), (("used",), 0)]
        assert rows["model_resident_bytes"] == []
        assert rows["model_churn_ratio"] == [((), 0.0)]


async def test_stopping_refuses_who_waits_and_abandons_what_runs() -> None:
    home = await House().start()
    client = await home.request("a")
    await home.loader.stop()
    await fails(client, ModelLoading)
    assert "cancelled a" in home.backend.asked
    await home.loader.drain(0.0)


async def test_timers_follow_what_idles(house: Open) -> None:
    home = await house(idle_unload=100.0)
    await home.make_ready("a")
    await home.pass_time(101)
    assert home.state("a") is State.UNLOADING


async def test_what_a_task_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    tasks = Tasks()
    with caplog.at_level(logging.ERROR):
        tasks.spawn(fail(), "broken")
        await settle()
    assert "broken failed" in caplog.text
    await tasks.cancel()
