"""The baselines: fixed idle times and the hybrid histogram."""

from math import inf

import pytest

from proxy.loading.baselines import FixedIdle, HybridHistogram
from proxy.loading.predictor import Forecast, Hint, IdleHint


class Driver:
    """Follows a look-ahead's timers; requests take no time."""

    def __init__(self, ahead: FixedIdle) -> None:
        self.ahead = ahead
        self.now = 0.0

    def use(self) -> None:
        assert self.ahead.arrived("m", self.now) == []
        self.ahead.ended("m", self.now)

    def sleep(self, span: float) -> list[Hint]:
        end, hints = self.now + span, []
        while self.ahead.next_at() <= end:
            self.now = self.ahead.next_at()
            hints += self.ahead.advance(self.now)
        self.now = end
        return hints


def test_looks_at_no_seasons_and_expects_nobody() -> None:
    ahead = FixedIdle()
    assert ahead.seasonal(["m"], 0.0) == []
    assert not ahead.is_expected("m", 0.0)
    assert ahead.expected_at("m") is None


def test_never_is_never() -> None:
    driver = Driver(FixedIdle())
    driver.use()
    assert driver.ahead.next_at() == inf


def test_a_fixed_idle_time_counts_from_the_last_end() -> None:
    driver = Driver(FixedIdle(300.0))
    driver.use()
    assert driver.sleep(200) == []
    driver.use()
    assert driver.sleep(299) == []
    assert driver.sleep(2) == [IdleHint("m", "idle for 300 s")]


def test_a_busy_model_is_not_idle() -> None:
    driver = Driver(FixedIdle(300.0))
    driver.use()
    driver.ahead.arrived("m", 1.0)
    assert driver.sleep(1000) == []


class TestHybridHistogram:
    def regular(self, period: float, times: int) -> Driver:
        driver = Driver(HybridHistogram())
        for _ in range(times):
            driver.use()
            driver.sleep(period)
        driver.use()
        return driver

    def test_keeps_what_it_does_not_know_for_its_whole_range(self) -> None:
        driver = Driver(HybridHistogram())
        driver.use()
        assert driver.sleep(4 * 3600 - 1) == []
        assert len(driver.sleep(2)) == 1

    def test_unloads_and_brings_back_what_is_regular(self) -> None:
        driver = self.regular(3600.0, 20)
        start = driver.now
        hints = driver.sleep(3599.0)
        assert [type(hint) for hint in hints] == [IdleHint, Forecast]
        forecast = hints[1]
        assert isinstance(forecast, Forecast)
        assert forecast.at - start == pytest.approx(0.9 * 3600)
        assert forecast.until - start == pytest.approx(1.1 * 3660)

    def test_keeps_what_comes_back_soon(self) -> None:
        assert self.regular(120.0, 20).sleep(110.0) == []
        assert self.regular(20.0, 20).sleep(19.0) == []

    def test_keeps_what_is_spread_evenly(self) -> None:
        driver = Driver(HybridHistogram())
        for n in range(240):
            driver.use()
            driver.sleep(60.0 * (n * 7 % 240) + 30)
        driver.use()
        assert driver.sleep(3 * 3600.0) == []

    def test_beyond_its_range_it_forecasts_the_mean(self) -> None:
        driver = self.regular(6 * 3600.0, 5)
        hints = driver.sleep(6 * 3600.0 - 1)
        assert isinstance(hints[0], IdleHint)
        assert isinstance(hints[-1], Forecast)
        assert hints[-1].at == pytest.approx(driver.now - 6 * 3600 + 1 + 0.85 * 6 * 3600)
