from __future__ import annotations

import pytest

from proxy.caching.entries import BadSeal, Entry, Seal

ENTRY = Entry("digits", b"OK", ((b"Content-Type", b"application/json"),), b"{}", 1.0, 2.0, 4.0, 3.0)


def test_an_entry_is_dead_after_its_last_use() -> None:
    assert ENTRY.dead_at == 4.0


def test_cost_counts_every_byte_and_more() -> None:
    small, large = ENTRY.cost, Entry("digits", b"OK", ENTRY.headers, bytes(1000), 1.0, 2.0, 4.0, 3.0).cost
    assert large - small == 998
    assert small > 500


@pytest.mark.parametrize("secret", ["", "s3cret"])
def test_what_was_sealed_opens(secret: str) -> None:
    assert Seal(secret).open("k", Seal(secret).close("k", ENTRY)) == ENTRY


@pytest.mark.parametrize(("then", "now"), [("old", "new"), ("", "new"), ("old", "")])
def test_another_secret_does_not_open(then: str, now: str) -> None:
    with pytest.raises(BadSeal):
        Seal(now).open("k", Seal(then).close("k", ENTRY))


def test_another_key_does_not_open() -> None:
    with pytest.raises(BadSeal):
        Seal("s").open("other", Seal("s").close("k", ENTRY))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b"", lambda _: bytes(99)]
)
@pytest.mark.parametrize("secret", ["", "s"])
def test_damage_does_not_open(damage: object, secret: str) -> None:
    assert callable(damage)
    with pytest.raises(BadSeal):
        Seal(secret).open("k", damage(Seal(secret).close("k", ENTRY)))


def test_a_pickle_is_never_run() -> None:
    seal = Seal()
    harmful = b"cos\nsystem\n(S'false'\ntR."
    with pytest.raises(BadSeal):
        seal.open("k", harmful)
    with pytest.raises(BadSeal):  # even under a good tag it is data of the wrong shape, and nothing else
        seal.open("k", seal._tag("k", harmful) + harmful)
