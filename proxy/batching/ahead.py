"""A call that left before it was examined (pure).

Theory of operation
-------------------
A call that comes alone to a backend with a free slot leaves at once, and leaves as it came: nothing that its
lane could say would change that. Reading its body, finding its lane, forming a batch of one and counting it
take as long as forwarding it, and longer where the call is one of few and finds all of that out of the
processor's caches. So it is sent first, and everything else is done while the backend works.

What is then found is what would have been found before: a batch of one, which teaches and is counted like any
other, or a call that is never merged. That one holds its slot for a turn of the loop, so after the first of
them calls are examined first again, until one can be merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.batching.former import Former
    from proxy.batching.policy import BatchPolicy
    from proxy.batching.tickets import Journey, Subject
    from proxy.exchange import Call

__all__ = ("Ahead",)


class Ahead:
    """`call`, which left at `sent_at` in a slot reserved in `former`.

    `is_booked` once it was examined; `journey` is then its batch of one, or None if it is no batch.
    """

    __slots__ = ("call", "former", "is_booked", "journey", "policy", "sent_at", "subject")

    def __init__(
        self, call: Call, subject: Subject, policy: BatchPolicy, former: Former, sent_at: float
    ) -> None:
        self.call = call
        self.subject = subject
        self.policy = policy
        self.former = former
        self.sent_at = sent_at
        self.is_booked = False
        self.journey: Journey | None = None
