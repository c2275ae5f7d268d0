"""The past of the models: rates, rhythm, successors, sessions, snapshots."""

import json
import sys
from math import exp

import pytest

from proxy.loading.history import History, HourProfile, ModelHistory

HOUR, DAY = 3600.0, 86400.0
MIDNIGHT = 20_000 * DAY


def seen(*instants: float) -> ModelHistory:
    past = ModelHistory(instants[0])
    for at in instants:
        past.arrived(at, is_idle=True)
        past.ended(at)
    return past


def test_counters_decay() -> None:
    past = seen(MIDNIGHT)
    assert past.frequency(MIDNIGHT) == 1.0
    assert past.frequency(MIDNIGHT + 3 * DAY) == pytest.approx(exp(-1))


def test_a_young_model_is_not_taken_for_slow() -> None:
    past = seen(*(MIDNIGHT + 10 * n for n in range(61)))
    assert past.rate(MIDNIGHT + 600) == pytest.approx(0.1, rel=0.1)


def test_counts_several_requests_at_once() -> None:
    past = ModelHistory(MIDNIGHT)
    past.arrived(MIDNIGHT, is_idle=True, count=5)
    assert past.frequency(MIDNIGHT) == 5


def test_only_idle_gaps_are_counted_and_the_first_request_ends_none() -> None:
    past = seen(MIDNIGHT)
    assert past.gaps.count() == 0
    past.arrived(MIDNIGHT + 50, is_idle=False)
    assert past.gaps.count() == 0
    past.ended(MIDNIGHT + 60)
    past.arrived(MIDNIGHT + 160, is_idle=True)
    assert past.gaps.quantile(0.5) == pytest.approx(100, rel=0.15)


def test_a_clock_that_steps_back_makes_no_negative_span() -> None:
    past = seen(MIDNIGHT, MIDNIGHT - 5000)
    assert past.frequency(MIDNIGHT - 9000) == 2.0
    assert past.gaps.quantile(0.5) <= 1.0
    past.ended(MIDNIGHT - 9000)
    assert past.last_end == MIDNIGHT - 9000, "from here on it counts as it runs"


def test_is_used_once_a_request_came() -> None:
    past = ModelHistory(MIDNIGHT)
    assert not past.is_used
    past.arrived(MIDNIGHT, is_idle=True)
    assert past.is_used


def test_trust_follows_the_windows_that_held() -> None:
    past = ModelHistory(MIDNIGHT)
    for _ in range(5):
        past.scored(is_right=True)
    assert past.trust == pytest.approx(1 - 0.5 * 0.8**5)
    past.scored(is_right=False)
    assert past.trust < 0.7


class TestRhythm:
    def daily(self, days: int) -> HourProfile:
        profile = HourProfile(24)
        for day in range(days):
            for minute in range(60):
                profile.add(MIDNIGHT + day * DAY + 9 * HOUR + 60 * minute)
        return profile

    def test_learns_the_busy_hour(self) -> None:
        profile = self.daily(5)
        tomorrow = MIDNIGHT + 5 * DAY
        profile.add(tomorrow)  # closes the hours before
        assert profile.rate(tomorrow + 9.5 * HOUR) == pytest.approx(60 / HOUR, rel=0.25)
        assert profile.rate(tomorrow + 15.5 * HOUR) == 0.0

    def test_interpolates_between_hours(self) -> None:
        profile = self.daily(5)
        profile.add(MIDNIGHT + 5 * DAY)
        middle, edge = (profile.rate(MIDNIGHT + hour * HOUR) for hour in (9.5, 9.0))
        assert edge == pytest.approx(middle / 2)

    def test_silent_days_fade(self) -> None:
        profile = self.daily(5)
        before = self.daily(5)
        before.add(MIDNIGHT + 5 * DAY)
        profile.add(MIDNIGHT + 9 * DAY)
        assert profile.rate(MIDNIGHT + 9.5 * HOUR) < 0.5 * before.rate(MIDNIGHT + 9.5 * HOUR)

    def test_counts_cycles(self) -> None:
        assert HourProfile(24).cycles(MIDNIGHT) == 0
        assert self.daily(3).cycles(MIDNIGHT + 3 * DAY + 10 * HOUR) == 3

    def test_hours_do_not_run_backwards(self) -> None:
        profile = self.daily(1)
        profile.add(MIDNIGHT - 5 * DAY)
        assert profile.cycles(MIDNIGHT + 9 * HOUR) == 0

    def test_refuses_another_cycle(self) -> None:
        with pytest.raises(ValueError, match="168 hours"):
            HourProfile(168).restore(self.daily(1).dump())

    def test_the_day_speaks_after_two_days_the_week_after_two_weeks(self) -> None:
        past = ModelHistory(MIDNIGHT)
        for day in range(15):
            past.arrived(MIDNIGHT + day * DAY + 9.5 * HOUR, is_idle=True)
        second = MIDNIGHT + 1.5 * DAY
        young = ModelHistory(MIDNIGHT)
        young.arrived(MIDNIGHT, is_idle=True)
        assert young.seasonal_rate(second) == 0.0
        young.arrived(MIDNIGHT + DAY, is_idle=True)
        young.arrived(MIDNIGHT + 2 * DAY, is_idle=True)
        assert young.seasonal_rate(MIDNIGHT + 2 * DAY + 0.5 * HOUR) > 0
        assert past.seasonal_rate(MIDNIGHT + 15 * DAY + 9.5 * HOUR) > 0
        assert past.rate(MIDNIGHT + 15 * DAY + 9.5 * HOUR) > 0


class TestSuccessors:
    def pipeline(self, rounds: int, apart: float = 10.0) -> History:
        history = History()
        for n in range(rounds):
            history.follow("a", "user", MIDNIGHT + 1000 * n)
            history.follow("b", "user", MIDNIGHT + 1000 * n + apart)
        return history

    def test_counts_who_follows_whom(self) -> None:
        past = self.pipeline(10).models["a"]
        assert (past.episodes, past.successors) == (10, {"b": 10})

    def test_who_comes_a_minute_later_does_not_follow(self) -> None:
        assert self.pipeline(10, apart=61.0).models["a"].successors == {}

    def test_a_repetition_is_the_same_episode(self) -> None:
        history = History()
        for n in range(5):
            history.follow("a", "user", MIDNIGHT + n)
        assert history.models["a"].episodes == 1

    def test_sessions_do_not_mix(self) -> None:
        history = History()
        history.follow("a", "one", MIDNIGHT)
        history.follow("b", "two", MIDNIGHT + 1)
        assert history.models["a"].successors == {}

    def test_remembers_four_and_replaces_the_rarest(self) -> None:
        past = ModelHistory(MIDNIGHT)
        for name in "bbccdde":
            past.followed_by(name)
        past.followed_by("f")
        assert past.successors == {"b": 2, "c": 2, "d": 2, "f": 1}

    def test_halves_its_counts(self) -> None:
        past = ModelHistory(MIDNIGHT)
        past.successors = {"b": 200, "c": 1}
        for _ in range(256):
            past.began_episode()
        assert (past.episodes, past.successors) == (128, {"b": 100})

    def test_forgets_the_oldest_session(self) -> None:
        history = History()
        for n in range(4097):
            history.follow("a", f"user {n}", MIDNIGHT)
        history.follow("b", "user 0", MIDNIGHT + 1)
        history.follow("b", "user 4096", MIDNIGHT + 1)
        assert history.models["a"].successors == {"b": 1}


class TestSnapshot:
    def busy(self) -> History:
        history = History()
        for n in range(50):
            past = history.of("a", MIDNIGHT)
            past.arrived(MIDNIGHT + 100 * n, is_idle=True)
            history.ended("a", MIDNIGHT + 100 * n + 1, 1.0)
        history.follow("a", "user", MIDNIGHT)
        history.follow("b", "user", MIDNIGHT + 1)
        return history

    def test_survives_json(self) -> None:
        history = self.busy()
        copy = History()
        copy.restore(json.loads(json.dumps(history.dump())))
        assert copy.dump() == history.dump()
        later = MIDNIGHT + DAY
        assert copy.models["a"].rate(later) == pytest.approx(history.models["a"].rate(later))

    def test_keeps_arrivals_a_second_apart(self) -> None:
        history = History()
        for n in range(8):
            history.ended("a", MIDNIGHT + 0.25 * n, 0.0)
        assert [at for at, _, _ in history.recent] == [MIDNIGHT, MIDNIGHT + 1]

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"version": 2},
            [],
            {"version": 1, "models": {"a": {}}, "recent": []},
            {"version": 1, "models": 3},
        ],
    )
    def test_refuses_what_is_none_and_keeps_what_it_had(self, document: dict[str, object]) -> None:
        history = self.busy()
        before = history.dump()
        with pytest.raises(ValueError, match="history"):
            history.restore(document)
        assert history.dump() == before


def weight(thing: object, seen_ids: set[int] | None = None) -> int:
    """Bytes of an object and all that it alone holds."""
    seen_ids = set() if seen_ids is None else seen_ids
    if id(thing) in seen_ids or isinstance(thing, type):
        return 0
    seen_ids.add(id(thing))
    total = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return total + sum(weight(k, seen_ids) + weight(v, seen_ids) for k, v in thing.items())
    if isinstance(thing, tuple | list):
        return total + sum(weight(part, seen_ids) for part in thing)
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return total + sum(weight(getattr(thing, name), seen_ids) for name in slots)


def test_a_model_costs_less_than_four_kibibytes() -> None:
    past = seen(*(MIDNIGHT + 977.7 * n for n in range(2000)))
    for name in ("some-model", "another-model", "a-third-model", "the-fourth-model"):
        past.followed_by(name)
    assert weight(past) < 4096
