"""The predictor: windows, successors, seasons, and when idle models should go."""

from math import inf

import pytest

from proxy.loading.actions import Load, Report
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.predictor import Forecast, Foresight, Hint, IdleHint, horizon
from tests.unit.loading.worlds import model, policy

DAY = 86400.0
START = 20_000 * DAY


class Watcher:
    """A predictor over one model's arrivals; requests take no time."""

    def __init__(
        self, idle_unload: object = "off", *, load_s: float = 10.0, is_acted_on: bool = True
    ) -> None:
        self.history = History()
        self.ahead = Foresight(self.history, idle_unload, is_acted_on=is_acted_on)  # type: ignore[arg-type]  # as configured
        self.load_s = load_s
        self.now = START

    def use(self, name: str = "m") -> list[Forecast]:
        past = self.history.of(name, self.now)
        past.cost.declare(self.load_s, None)
        past.arrived(self.now, is_idle=True)
        triggered = self.ahead.arrived(name, self.now)
        past.ended(self.now)
        self.ahead.ended(name, self.now)
        return triggered

    def use_every(self, period: float, times: int, name: str = "m") -> None:
        for _ in range(times):
            self.use(name)
            self.sleep(period)

    def sleep(self, span: float) -> list[Hint]:
        """Let time pass, following the predictor's timers."""
        end, hints = self.now + span, []
        while self.ahead.next_at() <= end:
            self.now = max(self.now, self.ahead.next_at())
            hints += self.ahead.advance(self.now)
        self.now = end
        return hints


def test_the_horizon_is_two_loads_but_a_minute_at_least() -> None:
    assert horizon(10.0) == 60.0
    assert horizon(100.0) == 200.0


def test_a_timer_as_fast_as_the_first_look_is_foreseen_where_idle_models_go_sooner() -> None:
    watcher = Watcher(8.0, load_s=2.0)
    watcher.use_every(30.0, 40)
    watcher.use()
    hints = watcher.sleep(28.0)
    foreseen = [hint for hint in hints if isinstance(hint, Forecast)]
    assert [hint.cause for hint in foreseen] == ["periodic"]
    assert watcher.now < foreseen[0].until


def test_has_nothing_to_say_at_first() -> None:
    watcher = Watcher()
    assert watcher.ahead.next_at() == inf
    assert watcher.ahead.advance(START) == []
    assert watcher.ahead.expected_at("m") is None
    assert not watcher.ahead.is_expected("m", START)


def test_forecasts_a_timer_so_that_the_load_ends_before_it() -> None:
    watcher = Watcher()
    watcher.use_every(600.0, 20)
    last = watcher.now
    watcher.use()
    hints = watcher.sleep(590.0)
    assert [type(hint) for hint in hints] == [Forecast]
    forecast = hints[0]
    assert isinstance(forecast, Forecast)
    assert forecast.cause == "periodic"
    assert last + 480 < forecast.at < last + 600 < forecast.until
    assert forecast.probability >= 0.8


def test_the_load_is_started_neither_earlier_nor_later() -> None:
    watcher = Watcher(load_s=50.0)
    watcher.use_every(600.0, 20)
    watcher.use()
    watcher.sleep(100.0)
    opens = watcher.ahead.expected_at("m")
    assert opens is not None
    assert watcher.sleep(opens - 51.0 - watcher.now - 0.1) == []
    assert len(watcher.sleep(0.2)) == 1


def test_says_when_a_model_is_expected() -> None:
    watcher = Watcher()
    watcher.use_every(600.0, 20)
    watcher.use()
    watcher.sleep(100.0)
    assert not watcher.ahead.is_expected("m", watcher.now)
    assert watcher.ahead.is_expected("m", watcher.now + 490.0)
    assert not watcher.ahead.is_expected("m", watcher.now + 5000.0)
    watcher.use()
    assert watcher.ahead.expected_at("m") is None


def test_a_model_must_have_earned_trust() -> None:
    watcher = Watcher()
    watcher.use_every(600.0, 10)  # eight gaps make a window, five windows that held make it trusted
    assert watcher.history.models["m"].trust < 0.8
    watcher.use()
    assert watcher.sleep(590.0) == []


def test_trust_is_lost_by_windows_that_did_not_hold() -> None:
    watcher = Watcher()
    watcher.use_every(600.0, 30)
    watcher.use()
    trusted = watcher.history.models["m"].trust
    watcher.sleep(100.0)
    watcher.use()
    assert watcher.history.models["m"].trust < trusted


def test_irregular_models_are_not_forecast() -> None:
    watcher = Watcher()
    for n in range(60):
        watcher.use()
        assert watcher.sleep(35.0 * 1.12 ** (n * 7 % 60)) == []


def test_a_burst_is_looked_at_again_when_it_is_over() -> None:
    watcher = Watcher()
    for _ in range(20):
        watcher.use_every(40.0, 5)
        watcher.sleep(3600.0)
    watcher.use_every(40.0, 4)
    watcher.use()
    hints = watcher.sleep(3600.0)
    assert [hint.cause for hint in hints if isinstance(hint, Forecast)] == ["periodic"]


def test_a_load_longer_than_what_is_left_starts_at_once() -> None:
    watcher = Watcher(load_s=3000.0)
    watcher.use_every(600.0, 20)
    watcher.use()
    assert len(watcher.sleep(31.0)) == 1


class TestIdle:
    def test_off_says_nothing(self) -> None:
        watcher = Watcher("off")
        watcher.use()
        assert watcher.sleep(10 * DAY) == []

    def test_a_fixed_span_counts_from_the_end(self) -> None:
        watcher = Watcher(120.0)
        watcher.use()
        assert watcher.sleep(100.0) == []
        watcher.use()
        assert watcher.sleep(119.0) == []
        assert [type(hint) for hint in watcher.sleep(2.0)] == [IdleHint]

    def test_a_span_shorter_than_the_first_look_is_kept(self) -> None:
        watcher = Watcher(5.0)
        watcher.use()
        assert len(watcher.sleep(6.0)) == 1

    def test_a_model_without_a_past_stays_for_a_while(self) -> None:
        watcher = Watcher("auto")
        watcher.use()
        assert watcher.sleep(600.0) == []
        assert IdleHint in [type(hint) for hint in watcher.sleep(4 * 3600.0)]

    def test_a_busy_model_goes_once_it_is_quiet_for_unusually_long(self) -> None:
        watcher = Watcher("auto")
        for n in range(50):
            watcher.use()
            watcher.sleep([20.0, 45.0, 90.0][n % 3])
        watcher.use()
        assert watcher.sleep(60.0) == []
        assert IdleHint in [type(hint) for hint in watcher.sleep(4 * 3600.0)]

    def test_a_trusted_timer_goes_at_once_and_is_brought_back(self) -> None:
        watcher = Watcher("auto")
        watcher.use_every(1500.0, 20)
        watcher.use()
        hints = watcher.sleep(1450.0)
        assert isinstance(hints[0], IdleHint)
        assert "comes back" in hints[0].why
        assert isinstance(hints[-1], Forecast)

    def test_it_stays_when_nobody_would_bring_it_back(self) -> None:
        watcher = Watcher("auto", is_acted_on=False)
        watcher.use_every(1500.0, 20)
        watcher.use()
        assert [type(hint) for hint in watcher.sleep(1450.0)] == [Forecast]

    def test_nothing_is_kept_for_longer_than_four_hours(self) -> None:
        watcher = Watcher("auto")
        watcher.use_every(5 * 3600.0, 12)
        watcher.use()
        assert IdleHint in [type(hint) for hint in watcher.sleep(4 * 3600.0 + 1)]


class TestSuccessors:
    def follow(self, rounds: int, share: float = 1.0) -> Watcher:
        watcher = Watcher()
        for n in range(rounds):
            watcher.use("a")
            watcher.history.follow("a", "user", watcher.now)
            watcher.sleep(5.0)
            if n < share * rounds:
                watcher.use("b")
                watcher.history.follow("b", "user", watcher.now)
            watcher.sleep(1000.0)
        return watcher

    def test_the_next_of_a_pipeline_is_forecast(self) -> None:
        watcher = self.follow(12)
        assert watcher.use("a") == [Forecast("b", "successor", watcher.now, watcher.now + 60.0, 1.0)]

    @pytest.mark.parametrize(("rounds", "share"), [(9, 1.0), (20, 0.5), (20, 0.0)])
    def test_too_few_or_too_rare_cases_are_not(self, rounds: int, share: float) -> None:
        assert self.follow(rounds, share).use("a") == []


class TestSeasons:
    def mornings(self, days: int) -> Watcher:
        watcher = Watcher(load_s=20.0)
        for _ in range(days):
            watcher.sleep(9 * 3600.0)
            watcher.use_every(30.0, 120)
            watcher.sleep(14 * 3600.0)
        return watcher

    def test_forecasts_the_busy_hour_once(self) -> None:
        watcher = self.mornings(4)
        watcher.sleep(9.25 * 3600.0)
        forecasts = watcher.ahead.seasonal(["m", "unknown"], watcher.now)
        assert [(f.model, f.cause) for f in forecasts] == [("m", "seasonal")]
        assert forecasts[0].probability > 0.3
        assert watcher.ahead.seasonal(["m"], watcher.now + 60.0) == []

    def test_not_at_night_and_not_on_the_first_day(self) -> None:
        watcher = self.mornings(4)
        assert watcher.ahead.seasonal(["m"], watcher.now + 1800.0) == []
        young = self.mornings(1)
        young.sleep(9.25 * 3600.0)
        assert young.ahead.seasonal(["m"], young.now) == []


def test_a_rhythm_is_known_after_a_restart_without_a_request() -> None:
    before = History()
    past = before.of("a", START)
    for turn in range(40):
        at = START + 600.0 * turn
        past.arrived(at, is_idle=True)
        past.scored(is_right=True)
        past.ended(at)
    now = START + 600.0 * 39 + 100
    planner = Planner(policy(mode="predictive", models={"a": model()}), before)
    planner.backend.reconcile({"a": Report("ready")}, planner.backend.mark(), now)
    planner.decide(now)
    planner.backend.reconcile({"a": Report("unloaded")}, planner.backend.mark(), now + 10)
    loads: list[tuple[float, str]] = []
    while planner.wakeup() < now + 600 and not loads:
        at = planner.wakeup()
        loads = [(at, action.why) for action in planner.decide(at) if isinstance(action, Load)]
    assert loads
    assert loads[0][0] < START + 600.0 * 40
    assert "periodic forecast" in loads[0][1]
