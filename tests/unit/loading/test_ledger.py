"""The ledger: every prediction is scored once."""

from math import inf

import pytest

from proxy.loading.ledger import Ledger, Prediction
from proxy.loading.predictor import Forecast

FORECAST = Forecast("m", "periodic", at=100.0, until=200.0, probability=0.8)


def opened(suppressed: str = "") -> Ledger:
    ledger = Ledger()
    ledger.open(FORECAST, 80.0, 10.0, suppressed)
    return ledger


def settled(prediction: Prediction | None) -> tuple[str | None, bool, float]:
    assert prediction is not None
    return prediction.outcome, prediction.came_true, prediction.saved_s


def test_ready_in_time_is_a_hit_that_saved_the_load() -> None:
    assert settled(opened().arrived("m", 100.0, is_ready=True)) == ("hit", True, 10.0)


def test_still_loading_is_late_and_saved_what_had_run() -> None:
    assert settled(opened().arrived("m", 84.0, is_ready=False)) == ("late", True, 4.0)
    assert settled(opened().arrived("m", 99.0, is_ready=False)) == ("late", True, 10.0)
    assert settled(opened().arrived("m", 70.0, is_ready=False)) == ("late", True, 0.0)


def test_unloaded_before_anybody_came_is_wasted() -> None:
    assert settled(opened().gone("m")) == ("wasted", False, 0.0)


def test_expired_is_wasted() -> None:
    ledger = opened()
    assert ledger.next_expiry() == 200.0
    assert ledger.expired(199.0) == []
    assert [settled(p) for p in ledger.expired(200.0)] == [("wasted", False, 0.0)]
    assert ledger.next_expiry() == inf


@pytest.mark.parametrize(("is_ready", "saved"), [(False, 10.0), (True, 0.0)])
def test_suppressed_says_what_acting_would_have_saved(is_ready: bool, saved: float) -> None:
    ledger = opened("mode observe")
    assert settled(ledger.arrived("m", 100.0, is_ready=is_ready)) == ("suppressed", True, saved)
    assert ledger.totals["periodic"].forgone_s == saved
    assert ledger.precision("periodic") is None


def test_suppressed_and_wrong() -> None:
    assert settled(opened("no free memory").gone("m")) == ("suppressed", False, 0.0)


def test_nothing_is_scored_twice() -> None:
    ledger = opened()
    ledger.arrived("m", 100.0, is_ready=True)
    assert ledger.arrived("m", 101.0, is_ready=True) is None
    assert ledger.gone("m") is None
    assert ledger.expired(1e9) == []
    assert ledger.totals["periodic"].scored == 1


def test_one_prediction_at_a_time() -> None:
    ledger = opened()
    assert ledger.is_open("m")
    ledger.open(FORECAST._replace(cause="seasonal"), 90.0, 99.0)
    assert settled(ledger.arrived("m", 100.0, is_ready=True)) == ("hit", True, 10.0)
    assert not ledger.is_open("m")
    assert ledger.totals.keys() == {"periodic"}


def test_totals_and_precision() -> None:
    ledger = Ledger()
    for outcome in ("hit", "hit", "late", "wasted"):
        ledger.open(FORECAST, 80.0, 10.0)
        if outcome == "wasted":
            ledger.gone("m")
        else:
            ledger.arrived("m", 85.0, is_ready=outcome == "hit")
    totals = ledger.totals["periodic"]
    assert (totals.saved_s, totals.wasted_s) == (25.0, 10.0)
    assert ledger.precision("periodic") == 0.75
    assert ledger.precision("seasonal") is None
    assert totals.brier / totals.scored == pytest.approx((3 * 0.04 + 0.64) / 4)


def test_decisions_are_read_newest_first() -> None:
    ledger = Ledger()
    for at, model in enumerate("aba"):
        ledger.note(at, model, "load", f"reason {at}")
    assert [d.why for d in ledger.why("a")] == ["reason 2", "reason 0"]
    for at in range(600):
        ledger.note(at, "c", "load", "")
    assert ledger.why("a") == []
