from __future__ import annotations

import math

import pytest

from proxy.pooling.idle_time import LOOK_S, LOOKS, REST_S
from proxy.pooling.policy import HttpPoolPolicy
from proxy.pooling.pool_core import PoolCore
from proxy.pooling.upkeep import Aged, Chores, Upkeep

Subject = Upkeep[Aged, str]


def upkeep(**policy: object) -> Subject:
    settings = HttpPoolPolicy.model_validate({"min": 2, "max": 20} | policy)
    return Upkeep(settings, PoolCore(settings.max, settings.queue), 0.0)


def trust(subject: Subject) -> None:
    rested = Aged()
    rested.uses = 1
    for rests in range(3):
        rested.idle_since = rests * REST_S
        subject.survived(rested, (rests + 1) * REST_S)


def idle(subject: Subject, count: int = 1, *, now: float = 0.0, uses: int = 1) -> list[Aged]:
    made = []
    for _ in range(count):
        connection = Aged()
        connection.uses = uses
        subject.dialed(connection, now, 0.5)
        subject.core.idle.append(connection)
        made.append(connection)
    return made


def closed(chores: Chores[Aged]) -> list[str]:
    return [why for _, why in chores.close]


# ------------------------------------------------------------------ ends of a connection's life
@pytest.mark.parametrize(("jitter", "age_s"), [(0.0, 540.0), (0.5, 600.0), (1.0, 660.0)])
def test_ages_are_spread(jitter: float, age_s: float) -> None:
    subject, connection = upkeep(), Aged()
    subject.dialed(connection, 100.0, jitter)
    assert connection.retire_at == pytest.approx(100.0 + age_s)


def test_zero_turns_the_bounds_off() -> None:
    subject, connection = upkeep(max_age="0s", max_requests=0), Aged()
    subject.dialed(connection, 0.0, 0.5)
    connection.uses = 10**9
    assert subject.is_spent(connection, 1e9) is None


def test_a_connection_is_spent_by_age_or_by_requests() -> None:
    subject, connection = upkeep(max_requests=3), Aged()
    subject.dialed(connection, 0.0, 0.5)
    assert subject.is_spent(connection, 599.0) is None
    assert subject.is_spent(connection, 600.0) == "age"
    connection.uses = 3
    assert subject.is_spent(connection, 0.0) == "requests"


def test_idle_connections_age_out() -> None:
    subject = upkeep(idle="30s", max_age="1m")
    [old] = idle(subject)
    [young] = idle(subject, now=20.0)
    old.retire_at = 50.0
    assert closed(subject.chores(29.0, 0.5)) == []
    assert subject.chores(30.0, 0.5).close == [(old, "idle")]
    young.retire_at = 40.0
    subject.core.idle.remove(old)
    assert subject.chores(40.0, 0.5).close == [(young, "age")]


# ------------------------------------------------------------------ learning
def test_an_announcement_shortens_the_rest() -> None:
    subject = upkeep()
    subject.announced(5.0)
    [connection] = idle(subject)
    assert connection.fit_until == 4.0
    assert subject.idle_limit_s == 4.0


def test_connections_that_were_never_used_have_a_limit_of_their_own() -> None:
    subject = upkeep()
    subject.announced(5.0)
    [connection] = idle(subject, uses=0)
    assert connection.fit_until == 30.0


def test_a_close_right_after_an_answer_costs_trust_at_once() -> None:
    subject = upkeep()
    trust(subject)
    assert not subject.core.must_rest
    [connection] = idle(subject)
    assert not subject.ended(connection, REST_S / 2)
    assert subject.core.must_rest


def test_closings_are_judged_together_and_teach_the_limit() -> None:
    subject = upkeep()
    idle(subject, 20)
    for connection in idle(subject, 3):
        subject.core.idle.remove(connection)
        subject.ended(connection, 5.0)
    assert subject.idle_limit_s == 30.0
    assert subject.next_at(5.0) <= 5.1
    subject.chores(5.1, 0.5)
    assert subject.idle_limit_s == 4.0


def test_unused_connections_teach_their_own_limit() -> None:
    subject = upkeep()
    idle(subject, 20)
    [connection] = idle(subject, uses=0)
    subject.core.idle.remove(connection)
    subject.ended(connection, 10.0)
    subject.chores(10.1, 0.5)
    assert subject.idle_limit_s == 30.0
    [fresh] = idle(subject, now=20.0, uses=0)
    assert fresh.fit_until == 28.0


def test_a_restart_empties_the_pool_and_teaches_nothing() -> None:
    subject = upkeep()
    subject.keep_warm()
    leased = Aged()
    subject.core.leased.add(leased)
    survivors = idle(subject, 1)
    gone = [idle(subject, 1, now=now)[0] for now in (0.0, 4.0, 8.0)]
    troubles = []
    for connection in gone:
        subject.core.idle.remove(connection)
        troubles.append(subject.ended(connection, 9.0))
    assert troubles == [False, True, True], "half of them went"
    chores = subject.chores(9.1, 0.5)
    assert chores.close == [(survivors[0], "restart")]
    assert chores.dials == 0, "nothing is warmed before the endpoint is known to be healthy"
    assert subject.idle_limit_s == 30.0
    assert subject.is_spent(leased, 9.1) == "restart"


def test_surviving_a_second_makes_longer_rests_safe() -> None:
    subject = upkeep()
    trust(subject)
    old, new = idle(subject, 2)
    new.idle_since = 3.0
    assert not subject.is_safe(old, 2.0)
    subject.chores(3.0, 0.5)
    assert not subject.is_safe(old, 2.0), "it may be the machine that stands still"
    assert subject.next_at(3.0) == 3.0 + REST_S
    subject.chores(3.0 + REST_S, 0.5)
    assert subject.is_safe(old, 2.0)
    assert not subject.is_safe(old, 3.0)


def test_one_that_ends_behind_a_sighting_or_works_again_proves_nothing() -> None:
    subject = upkeep()
    trust(subject)
    [ended] = idle(subject)
    subject.sighted(ended, 3.0)
    subject.core.idle.remove(ended)
    subject.chores(3.0 + REST_S, 0.5)
    assert not subject.is_safe(ended, 2.0)
    [busy] = idle(subject)
    subject.sighted(busy, 5.0)
    subject.sighted(ended, 5.0)
    subject.rests(busy, 5.01)
    subject.chores(5.1, 0.5)
    assert not subject.is_safe(busy, 7.0)


def test_nothing_is_safe_while_closings_wait_to_be_judged() -> None:
    subject = upkeep()
    trust(subject)
    closed_one, other = idle(subject, 2)
    subject.chores(5.0, 0.5)
    subject.chores(5.0 + REST_S, 0.5)
    assert subject.is_safe(other, 1.0)
    subject.core.idle.remove(closed_one)
    subject.ended(closed_one, 5.0)
    assert not subject.is_safe(other, 1.0)
    subject.chores(5.1, 0.5)
    assert subject.is_safe(other, 1.0)


# ------------------------------------------------------------------ size
def test_idle_surplus_is_closed_in_halves_from_the_cold_end() -> None:
    subject = upkeep(min=2, idle="10m")
    connections = idle(subject, 10)
    trust(subject)
    chores = Chores[Aged]([], 0)
    now = 0.0
    while not chores.close:
        now += 1.0
        chores = subject.chores(now, 0.5)
        assert now < 100
    assert chores.close == [(connection, "surplus") for connection in connections[:4]]


def test_use_is_what_was_touched_since_the_last_second() -> None:
    subject = upkeep(min=0, idle="10m")
    untouched = idle(subject, 6)
    subject.chores(1.0, 0.5)
    for connection in untouched[3:]:
        subject.rests(connection, 1.5)
    subject.core.leased.update([Aged(), Aged()])
    subject.chores(2.0, 0.5)
    assert subject.snapshot()["target"] == 7, "five in use: 1.05 x 5 and twice the square root of 0.5"


# ------------------------------------------------------------------ spares
def test_nothing_is_warmed_before_the_endpoint_is_healthy() -> None:
    subject = upkeep()
    assert subject.chores(0.0, 0.5).dials == 0
    assert subject.next_at(0.0) == math.inf
    subject.keep_warm()
    assert subject.next_at(0.0) == 0.0
    assert subject.chores(0.0, 0.5).dials == 1


def test_spares_are_dialed_one_by_one() -> None:
    subject = upkeep(min=3)
    subject.keep_warm()
    starts = []
    now = 0.0
    while subject.core.dialing < 3:
        dials = subject.chores(now, 0.5).dials
        if dials:
            starts.append(round(now, 4))
        subject.core.dialing += dials
        now = max(subject.next_at(now), now)
    assert starts == [0.0, 0.03, 0.06]
    assert subject.next_at(now) == math.inf


def test_spares_wait_for_the_dials_back_off() -> None:
    subject = upkeep()
    subject.keep_warm()
    subject.core.dial_at = 0.7
    assert subject.chores(0.5, 0.5).dials == 0
    assert subject.next_at(0.5) == 0.7


def test_an_impatient_backend_that_nobody_asks_gets_one_spare() -> None:
    subject = upkeep(min=5)
    subject.keep_warm()
    subject.announced(5.0)
    assert subject.snapshot()["spare"] == 1


# ------------------------------------------------------------------ when to look
def test_traffic_is_looked_at_every_second() -> None:
    subject = upkeep()
    trust(subject)
    idle(subject, uses=0)
    assert subject.next_at(0.0) == 1.0
    subject.chores(1.0, 0.5)
    subject.chores(1.1, 0.5)
    assert subject.next_at(1.0) == 30.0, "no traffic: not before the connection has aged out"
    subject.core.leased.add(Aged())
    assert subject.next_at(1.0) == 2.0


def test_more_idle_connections_than_wanted_are_looked_at_too() -> None:
    subject = upkeep(min=2)
    trust(subject)
    idle(subject, 3, uses=0)
    subject.chores(1.0, 0.5)
    subject.chores(1.1, 0.5)
    assert subject.next_at(1.1) == 2.0


def test_what_must_rest_is_looked_at_until_it_has() -> None:
    subject = upkeep()
    [connection] = idle(subject)
    instants = []
    while connection.looks < LOOKS:
        instants.append(subject.next_at(0.0))
        subject.chores(instants[-1], 0.5)
    assert instants == pytest.approx([LOOK_S * number for number in range(1, LOOKS + 1)])
    assert subject.next_at(REST_S) == 1.0, "it is rested: not a matter of time any more"


def test_while_the_machine_stands_still_nothing_rests() -> None:
    subject = upkeep()
    [early] = idle(subject)
    subject.chores(LOOK_S, 0.5)
    subject.chores(9.0, 0.5)
    assert early.looks == 2
    assert subject.next_at(9.0) == 9.0 + LOOK_S
    subject.chores(9.0 + LOOK_S / 2, 0.5)
    [late] = idle(subject, now=9.0 + LOOK_S / 2)
    subject.chores(9.0 + LOOK_S, 0.5)
    assert (early.looks, late.looks) == (3, 0)
    subject.rests(early, 10.0)
    assert early.looks == 0


def test_the_snapshot_says_what_was_learned() -> None:
    subject = upkeep()
    subject.announced(5.0)
    assert subject.snapshot() == {
        "target": 2,
        "spare": 0,
        "idle_limit_s": 4.0,
        "learned_idle_s": 4.0,
        "is_trusted": False,
    }


def test_rests_are_seen_without_anybody_who_takes_the_connection() -> None:
    subject = upkeep()
    for rests in range(3):
        assert subject.core.must_rest
        since = rests * 1.0
        [connection] = idle(subject, now=since)
        assert not subject.is_safe(connection, since)
        for look in range(1, LOOKS + 1):
            subject.chores(since + look * LOOK_S, 0.5)
        subject.core.idle.remove(connection)
    assert not subject.core.must_rest
    assert subject.is_safe(connection, since)


def test_an_unused_connection_is_safe_while_it_is_new() -> None:
    subject = upkeep()
    [connection] = idle(subject, uses=0)
    assert subject.is_safe(connection, REST_S / 2)
    assert not subject.is_safe(connection, 1.0)


def test_after_a_breach_no_used_connection_is_safe_however_short_its_rest() -> None:
    subject = upkeep()
    trust(subject)
    ended, other = idle(subject, 2, now=1.0)
    assert subject.is_safe(other, 1.001)
    subject.core.idle.remove(ended)
    subject.ended(ended, 1.001)
    assert not subject.is_safe(other, 1.001)


def prove(subject: Subject, connection: Aged, until: float) -> list[float]:
    """Do what is due, up to `until`; the ages at which `connection` was not safe just before it was done."""
    lacking = []
    now = connection.idle_since
    while (now := max(now, subject.next_at(now))) < until:
        if not subject.is_safe(connection, now):
            lacking.append(now - connection.idle_since)
        subject.chores(now, 0.5)
    return lacking


def test_ages_are_proven_before_they_are_needed() -> None:
    subject = upkeep()
    trust(subject)
    [coldest] = idle(subject)
    prove(subject, coldest, 10.0)
    [later] = idle(subject, now=10.0)
    assert subject.is_safe(later, 17.0), "0.8 of nearly ten seconds"
    assert not subject.is_safe(later, 18.1)


def test_what_is_proven_is_not_looked_at_again() -> None:
    subject = upkeep(idle="5s")
    trust(subject)
    [coldest] = idle(subject)
    looks = prove(subject, coldest, 5.0)
    assert len(looks) < 140, "ages grow by a tenth from look to look, each of two parts"
    subject.core.idle.remove(coldest)
    idle(subject, now=10.0)
    subject.chores(11.0, 0.5)
    subject.chores(12.1, 0.5)
    assert subject.next_at(12.1) == 15.0


@pytest.mark.parametrize(
    ("idle_since", "looks", "uses", "is_proving"),
    [
        (0.0, 0, 1, True),
        (0.0, LOOKS - 1, 1, True),
        (0.0, LOOKS, 1, False),
        (0.0, 0, 0, False),
        (-LOOK_S, 0, 1, False),
    ],
    ids=["it rests", "it nearly has", "it has", "it was never used", "it rested while another did"],
)
def test_a_rest_under_way_is_worth_waiting_for(
    idle_since: float, looks: int, uses: int, is_proving: bool
) -> None:
    subject = upkeep()
    [seen] = idle(subject, now=-REST_S)
    subject.survived(seen, 0.0)
    subject.core.idle.clear()
    [resting] = idle(subject, now=idle_since, uses=uses)
    resting.looks = looks
    assert subject.is_proving == is_proving


def test_nothing_is_worth_waiting_for_once_the_backend_is_known() -> None:
    trusted, guilty = upkeep(), upkeep()
    trust(trusted)
    idle(trusted)
    assert not trusted.is_proving
    [ended] = idle(guilty)
    guilty.core.idle.remove(ended)
    guilty.ended(ended, 0.0)
    idle(guilty)
    assert not guilty.is_proving


def test_less_than_a_rest_restores_no_trust() -> None:
    subject = upkeep()
    [connection] = idle(subject)
    for _ in range(3):
        subject.survived(connection, REST_S / 2)
    assert subject.core.must_rest
    connection.looks = LOOKS
    for rests in range(3):
        connection.idle_since = rests * REST_S
        subject.survived(connection, connection.idle_since + REST_S * 0.999)
    assert not subject.core.must_rest, "four looks make a rest, however the instants are rounded"
