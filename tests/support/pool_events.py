"""A recorder of what pools report."""

from __future__ import annotations

from collections import Counter

__all__ = ("RecordedEvents",)


class RecordedEvents:
    """Implements `PoolEvents`; `counts` has every event by name, with its slug where it has one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()

    def connected(self, result: str, span_s: float) -> None:
        assert span_s >= 0
        self.counts[f"connected {result}"] += 1

    def closed(self, why: str, uses: int) -> None:
        assert uses >= 0
        self.counts[f"closed {why}"] += 1

    def reused(self) -> None:
        self.counts["reused"] += 1

    def stale(self) -> None:
        self.counts["stale"] += 1

    def waited(self, span_s: float) -> None:
        assert span_s >= 0
        self.counts["waited"] += 1

    def answered(self, status: int, span_s: float) -> None:
        assert span_s >= 0
        self.statuses[status] += 1

    def retried(self) -> None:
        self.counts["retried"] += 1

    def retry_ended(self, result: str) -> None:
        self.counts[f"retry {result}"] += 1

    def hedged(self) -> None:
        self.counts["hedged"] += 1

    def probed(self, result: str) -> None:
        self.counts[f"probed {result}"] += 1

    def ejected(self) -> None:
        self.counts["ejected"] += 1
