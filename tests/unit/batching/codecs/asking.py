"""Short ways to ask a codec."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs import CODECS
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Prepared
    from proxy.exchange import Headers

__all__ = ("key_of", "merged", "prepare", "refusal", "split", "uncut")


def prepare(codec: str, *bodies: bytes, headers: Headers = ()) -> list[Prepared]:
    """Every body as the codec understands it."""
    return [CODECS[codec].prepare(body, headers) for body in bodies]


def refusal(codec: str, body: bytes, headers: Headers = ()) -> str:
    """Why the codec does not merge the body."""
    with pytest.raises(MergeRefused) as refused:
        CODECS[codec].prepare(body, headers)
    return refused.value.why


def key_of(codec: str, body: bytes) -> object:
    """What must be equal to this body's."""
    return CODECS[codec].prepare(body, ()).key


def merged(codec: str, *bodies: bytes) -> bytes:
    """One body for all of them, which must have equal keys."""
    members = prepare(codec, *bodies)
    assert len({member.key for member in members}) == 1
    return CODECS[codec].merge(members)[0]


def split(codec: str, answer: bytes, *bodies: bytes, headers: Headers = ()) -> list[bytes]:
    """The answer's part for each of the bodies."""
    return [body for body, _ in CODECS[codec].split((answer, headers), prepare(codec, *bodies))]


def uncut(codec: str, answer: bytes, *bodies: bytes, headers: Headers = ()) -> str:
    """Why the answer cannot be cut for these bodies."""
    with pytest.raises(SplitMismatch) as mismatch:
        CODECS[codec].split((answer, headers), prepare(codec, *bodies))
    return str(mismatch.value)
