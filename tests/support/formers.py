"""Formers of one or several slots, and what is put into them."""

from __future__ import annotations

import math

from proxy.batching.cap import ItemCap
from proxy.batching.former import Batch, Former, Trigger
from proxy.batching.profile import Profile
from proxy.batching.queueing import Bounds, Lane, Ticket

__all__ = (
    "WINDOW",
    "eager",
    "leave",
    "make_lane",
    "patient",
    "put",
    "teach",
)


WINDOW = Bounds(nbytes=1000, wait_s=0.050)


def make_lane(key: str = "a", bounds: Bounds = WINDOW) -> Lane:
    """A lane of ten items for each batch, of its own path and tenant."""
    return Lane(key, bounds, Profile(lambda: ItemCap(10, 10, 10)), tenant=key)


def teach(lane: Lane, seconds: float) -> None:
    """Make every batch of the lane's path take `seconds`."""
    for _ in range(8):
        lane.profile.model.observe(4, seconds, was_alone=True)
    lane.profile.service_s = seconds


def eager(limit: float = 1) -> Former:
    return Former(is_eager=True, limit=limit)


def patient(limit: float = math.inf) -> Former:
    return Former(is_eager=False, limit=limit)


def put(
    former: Former, lane: Lane, now: float, items: int = 1, *, nbytes: int = 10, deadline: float = math.inf
) -> Ticket:
    ticket = Ticket(lane, items, nbytes, now, deadline)
    former.add(ticket)
    return ticket


def leave(former: Former, now: float, cause: Trigger = "idle") -> Batch:
    batch = former.next_batch(now, cause)
    assert batch is not None
    return batch
