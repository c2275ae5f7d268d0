"""What is found out about a call before it is merged: of its head, once for all that repeat it, and its
body."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from proxy.batching.codecs.base import Rememberer

if TYPE_CHECKING:
    from collections.abc import Hashable

    from proxy.batching.codecs.base import Codec, Prepared
    from proxy.batching.keys import Wishes
    from proxy.batching.plan import Plan
    from proxy.batching.policy import BatchPolicy
    from proxy.batching.tickets import Subject
    from proxy.exchange import Headers

__all__ = ("Examined", "Origin", "Stem")


class Stem:
    """The part of a batch key that does not depend on the body, and the rules that come with it.

    There is one for each such part, so its identity stands for it. `prepare` reads the bodies that come with
    it.
    """

    __slots__ = ("__weakref__", "codec", "headers", "plan", "prepare")

    def __init__(self, plan: Plan, codec: Codec, headers: Headers) -> None:
        self.plan = plan
        self.codec = codec
        self.headers = headers
        self.prepare = codec.remembering() if isinstance(codec, Rememberer) else codec.prepare


class Origin(NamedTuple):
    """What was found out about a head, and by what rules: it holds while they are the same."""

    subject: Subject
    policy: BatchPolicy
    stem: Stem
    wishes: Wishes


class Examined(Struct, frozen=True, gc=False):
    """A call that may be merged: by what rules, and what it was understood as."""

    stem: Stem
    wishes: Wishes
    prepared: Prepared
    key: Hashable
