"""Calls that have to travel alone for a while."""

from __future__ import annotations

from proxy.batching.quarantine import Quarantine


def test_a_call_is_held_for_a_minute() -> None:
    quarantine = Quarantine()
    assert not quarantine.holds(b"/m", b"bad", 0.0)
    quarantine.add(b"/m", b"bad", 0.0)
    assert quarantine.holds(b"/m", b"bad", 59.9)
    assert not quarantine.holds(b"/m", b"bad", 60.0)
    assert len(quarantine) == 0


def test_only_the_very_same_call_is_held() -> None:
    quarantine = Quarantine()
    quarantine.add(b"/m", b"x bad", 0.0)
    assert not quarantine.holds(b"/m", b"good", 1.0)
    assert not quarantine.holds(b"/m x", b"bad", 1.0)


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    quarantine = Quarantine()
    for number in range(1025):
        quarantine.add(b"/m", b"%d" % number, 0.0)
    assert len(quarantine) == 1024
    assert not quarantine.holds(b"/m", b"0", 1.0)
    assert quarantine.holds(b"/m", b"1", 1.0)


def test_holding_again_makes_it_young_again() -> None:
    quarantine = Quarantine()
    quarantine.add(b"/m", b"again", 0.0)
    for number in range(1023):
        quarantine.add(b"/m", b"%d" % number, 0.0)
    quarantine.add(b"/m", b"again", 30.0)
    quarantine.add(b"/m", b"one more", 30.0)
    assert quarantine.holds(b"/m", b"again", 80.0)
