from __future__ import annotations

from proxy.telemetry.series import OTHER, Models


def test_a_name_is_a_label_once_the_backend_has_answered_for_it() -> None:
    models = Models()
    assert models.label("iris") == OTHER
    assert models.settle("iris", answered=True) == "iris"
    assert models.label("iris") == "iris"


def test_a_name_that_the_backend_does_not_know_counts_as_other() -> None:
    models = Models()
    assert models.settle("no-such-model", answered=False) == OTHER
    assert models.label("no-such-model") == OTHER


def test_an_admitted_name_stays_admitted_when_a_call_fails() -> None:
    models = Models()
    models.settle("iris", answered=True)
    assert models.settle("iris", answered=False) == "iris"


def test_configured_names_and_the_empty_name_are_admitted_from_the_start() -> None:
    models = Models(("iris",))
    assert models.settle("iris", answered=False) == "iris"
    assert models.settle("", answered=False) == ""


def test_names_beyond_the_cap_count_as_other() -> None:
    models = Models(cap=2)
    labels = [models.settle(name, answered=True) for name in ("a", "b", "c")]
    assert labels == ["a", "b", OTHER]
    assert models.of("c") is models.admitted[OTHER]


def test_configured_names_are_all_admitted_whatever_the_cap() -> None:
    models = Models(("a", "b"), cap=1)
    assert [models.label(name) for name in ("a", "b")] == ["a", "b"]
    assert models.settle("c", answered=True) == OTHER


def test_what_was_counted_before_the_first_answer_becomes_the_models_own() -> None:
    models = Models()
    models.of("iris").triggers["idle"] += 1
    models.of("iris").batch_items.observe(3)
    assert "iris" not in models.admitted
    models.settle("iris", answered=True)
    assert models.admitted["iris"].triggers == {"idle": 1}
    assert models.admitted["iris"].batch_items.count == 1
    assert models.admitted[OTHER].batch_items.count == 0


def test_what_was_counted_for_an_unknown_model_is_added_to_other() -> None:
    models = Models()
    for name in ("x", "y"):
        series = models.of(name)
        series.triggers["full"] += 2
        series.refused["shape"] += 1
        series.isolations += 1
        for histogram in (series.queue_wait, series.batch_items, series.batch_wait, series.first_byte):
            histogram.observe(1.0)
        models.settle(name, answered=False)
    other = models.admitted[OTHER]
    assert other.triggers == {"full": 4}
    assert other.refused == {"shape": 2}
    assert other.isolations == 2
    for histogram in (other.queue_wait, other.batch_items, other.batch_wait, other.first_byte):
        assert (histogram.count, histogram.total) == (2, 2.0)
    assert models.of("x").isolations == 0


def test_pending_names_are_bounded() -> None:
    models = Models()
    waiting = [models.of(f"m{n}") for n in range(1024)]
    assert models.of("one too many") is models.admitted[OTHER]
    assert models.of("m0") is waiting[0]
    models.settle("m0", answered=False)
    assert models.of("one too many") is not models.admitted[OTHER]
