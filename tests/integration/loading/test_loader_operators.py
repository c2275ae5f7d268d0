"""What operators ask of a loader, and what it owes who stops it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.errors import ModelLoading
from proxy.loading.control.base import ControlError
from proxy.loading.gauges import samplers
from proxy.loading.predictor import Forecast
from proxy.loading.slot import State
from proxy.loading.tasks import Tasks
from tests.integration.loading.house import House, Open, fails, settle
from tests.unit.loading.worlds import GIB

if TYPE_CHECKING:
    import pytest


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
