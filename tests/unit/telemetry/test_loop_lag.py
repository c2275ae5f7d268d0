from __future__ import annotations

import pytest

from proxy.telemetry.histogram import Histogram
from proxy.telemetry.loop_lag import LoopLagSampler
from tests.support.manual_clock import ManualClock


async def test_each_tick_observes_how_late_it_ran() -> None:
    clock, lags = ManualClock(), Histogram((0.1, 0.5))
    sampler = LoopLagSampler(clock, lags)
    await sampler.start()
    clock.advance(0.5)
    assert (lags.count, lags.total) == (1, 0.0)
    clock.advance(1.0, late_s=0.3)
    assert lags.count == 2
    assert lags.total == pytest.approx(0.3)


async def test_nothing_is_left_behind() -> None:
    clock, lags = ManualClock(), Histogram((0.1,))
    sampler = LoopLagSampler(clock, lags)
    await sampler.stop()
    await sampler.start()
    await sampler.drain(0.0)
    await sampler.stop()
    assert clock.pending == 0
    clock.advance(60.0)
    assert lags.count == 0
