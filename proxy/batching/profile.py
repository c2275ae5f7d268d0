"""What is known about the calls of one path: how long batches take, how large they may be, how the last went.

Theory of operation
-------------------
Lanes come and go with shapes, parameters and callers; the backend's behaviour belongs to the path, which
names the model. All lanes of a path share a `Profile`, so what one learned serves the next, and ten
thousand lanes of one model need one model of it.

`service_s` is what a batch of the usual size is expected to take at most; it says when a deadline becomes
urgent and when a batch is late. `item_cost_s` is the share of one item in a full batch. Both are 0 until
something is known.

The last batches are kept for whoever asks what the lanes are doing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from proxy.batching.latency_model import LatencyModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.batching.cap import ItemCap

__all__ = ("BatchRecord", "Profile")

_REMEMBERED = 20


class BatchRecord(NamedTuple):
    """One batch that was sent: when, how it was formed, and what came of it."""

    sent_at: float
    items: int
    members: int
    trigger: str
    wait_s: float
    seconds: float
    status: int
    """The answer's HTTP status; 0 when there was none."""


class Profile:
    """What is known about one path.

    `name` is the model's, `target` the path; `is_known` once the model's own limit was asked for.
    """

    __slots__ = (
        "_new_cap",
        "_too_large",
        "cap",
        "is_known",
        "item_cost_s",
        "last",
        "model",
        "name",
        "service_s",
        "target",
    )

    def __init__(self, new_cap: Callable[[], ItemCap], name: str = "", target: bytes = b"") -> None:
        self.name = name
        self.target = target
        self.last: deque[BatchRecord] = deque(maxlen=_REMEMBERED)
        self._new_cap = new_cap
        self.forget()

    def forget(self) -> None:
        """The model was loaded anew: nothing that was learned of it holds, but what happened happened."""
        self.cap = self._new_cap()
        self.model = LatencyModel()
        self.is_known = False
        self.service_s = 0.0
        self.item_cost_s = 0.0
        self._too_large = False

    def answered(self, record: BatchRecord, *, was_alone: bool) -> None:
        """A batch was answered with success."""
        self._too_large = False
        self.model.observe(record.items, record.seconds, was_alone=was_alone)
        self.cap.answered(record.items, record.seconds, self.model)
        if self.model.is_ready:
            self.service_s = self.model.p95_s(record.items)
            self.item_cost_s = self.model.expect_s(self.cap.items) / self.cap.items

    def was_too_large(self, largest_items: int) -> None:
        """A batch failed of which every part worked, groups of up to `largest_items` among them.

        Once may be chance; twice in a row is a limit.
        """
        if self._too_large:
            self.cap.limit_to(largest_items)
        self._too_large = not self._too_large

    def work_s(self, items: int) -> float:
        """How long a batch of `items` takes alone; 0 while that is not known."""
        return self.model.expect_s(items) if self.model.is_ready else 0.0
