"""What a loader sees of its backend, and what it keeps for its successor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from proxy.loading.control.base import ControlError
from proxy.loading.policy import HistoryPolicy
from tests.integration.loading.house import House, Open, settle
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
