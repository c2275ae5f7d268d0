from __future__ import annotations

from dataclasses import dataclass

from proxy.caching.lru import Lru


@dataclass(frozen=True)
class Thing:
    cost: int = 10
    dead_at: float = 100.0


def a_table(max_bytes: int = 30) -> Lru[Thing]:
    return Lru(max_bytes)


def test_the_least_recently_used_goes_first() -> None:
    table = a_table()
    for key in (b"a", b"b", b"c"):
        assert table.put(key, Thing())
    table.touch(b"a")
    table.put(b"d", Thing())
    assert list(table) == [b"c", b"a", b"d"]
    assert (table.nbytes, table.evicted, len(table)) == (30, 1, 3)


def test_a_large_entry_displaces_several() -> None:
    table = a_table()
    for key in (b"a", b"b", b"c"):
        table.put(key, Thing())
    table.put(b"big", Thing(cost=25))
    assert list(table) == [b"big"]
    assert table.nbytes == 25


def test_what_can_never_fit_is_not_taken() -> None:
    table = a_table()
    table.put(b"a", Thing())
    assert not table.put(b"huge", Thing(cost=31))
    assert list(table) == [b"a"]


def test_replacing_counts_once() -> None:
    table = a_table()
    table.put(b"a", Thing(cost=10))
    table.put(b"a", Thing(cost=20))
    assert (table.nbytes, len(table), table.evicted) == (20, 1, 0)


def test_dropping_is_idempotent() -> None:
    table = a_table()
    table.put(b"a", Thing())
    table.drop(b"a")
    table.drop(b"a")
    assert (table.nbytes, table.get(b"a"), b"a" in table) == (0, None, False)


def test_a_sweep_takes_the_dead_and_only_them() -> None:
    table = a_table(1000)
    table.put(b"early", Thing(dead_at=5.0))
    table.put(b"late", Thing(dead_at=50.0))
    assert not table.sweep(4.9)
    assert not table.sweep(5.0)
    assert list(table) == [b"late"]
    assert (table.expired, table.nbytes) == (1, 10)


def test_a_sweep_leaves_what_was_replaced_by_something_longer_lived() -> None:
    table = a_table(1000)
    table.put(b"a", Thing(dead_at=5.0))
    table.put(b"a", Thing(dead_at=50.0))
    assert not table.sweep(10.0)
    assert b"a" in table


def test_a_sweep_stops_after_its_share_and_says_so() -> None:
    table = a_table(1000)
    for index in range(5):
        table.put(b"%d" % index, Thing(dead_at=1.0))
    assert table.sweep(2.0, most=2)
    assert len(table) == 3
    assert not table.sweep(2.0, most=3)


def test_ghosts_do_not_pile_up() -> None:
    table = a_table(20)
    for index in range(10_000):
        table.put(b"%d" % index, Thing(dead_at=float(index)))
    assert len(table._deaths) <= 2 * len(table) + 65


def test_clearing_leaves_nothing() -> None:
    table = a_table()
    table.put(b"a", Thing())
    table.clear()
    assert (len(table), table.nbytes) == (0, 0)
    assert not table.sweep(1e9)
    assert table.expired == 0
