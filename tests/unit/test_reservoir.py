"""Bytes that wait, and the ledger that counts them."""

from __future__ import annotations

from proxy.reservoir import Ledger, Reservoir


def test_pieces_are_taken_together_or_whole_one_by_one() -> None:
    reservoir = Reservoir()
    for piece in (b"aa", b"bbb", b"c"):
        reservoir.add(piece)
    assert reservoir.take_some(5) == b"aabbb"
    assert (reservoir.size, reservoir.take()) == (1, b"c")


def test_a_piece_larger_than_asked_for_is_not_cut() -> None:
    reservoir = Reservoir()
    reservoir.add(b"x" * 100)
    reservoir.add(b"y")
    assert reservoir.take_some(10) == b"x" * 100
    assert reservoir.take_some(10) == b"y"


def test_the_ledger_counts_what_waits_and_what_is_held() -> None:
    ledger = Ledger(100)
    reservoir = Reservoir()
    reservoir.add(b"x" * 30)
    reservoir.hold(10)
    reservoir.open(ledger)
    assert ledger.used == 40
    reservoir.add(b"y" * 40)
    assert reservoir.is_tight
    assert not ledger.is_full
    reservoir.put_back(b"z" * 20)
    assert ledger.is_full
    reservoir.hold(0)
    assert reservoir.take() == b"z" * 20 + b"x" * 30 + b"y" * 40
    assert (ledger.used, reservoir.is_tight) == (0, False)


def test_without_a_ledger_nothing_is_tight() -> None:
    reservoir = Reservoir()
    reservoir.add(b"x" * 1000)
    reservoir.hold(1000)
    assert not reservoir.is_tight
    assert reservoir.take() == b"x" * 1000
