"""API keys by their digests."""

from __future__ import annotations

import hashlib

import pytest

from proxy.errors import Unauthorized
from proxy.ingress.auth import KeyRing

RING = KeyRing([hashlib.sha256(key).hexdigest() for key in (b"one", b"two")])


def test_an_empty_ring_asks_nobody() -> None:
    assert RING
    assert not KeyRing(())


@pytest.mark.parametrize("value", [b"Bearer two", b"bearer two", b"BEARER  two"])
def test_an_accepted_key_becomes_an_identity(value: bytes) -> None:
    assert RING.identify([value]) == hashlib.sha256(b"two").digest()


@pytest.mark.parametrize(
    "values",
    [None, [], [b"Bearer one", b"Bearer two"], [b"Bearer three"], [b"Basic one"], [b"one"], [b"Bearer "]],
)
def test_anything_else_is_refused(values: list[bytes] | None) -> None:
    with pytest.raises(Unauthorized) as caught:
        RING.identify(values)
    assert "three" not in str(caught.value)
