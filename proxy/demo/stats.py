"""What the demo server counts, so that a test can tell what reached the backend and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ("Stats",)


@dataclass(slots=True)
class Stats:
    """Counts since the start or the last `reset`, and a few current numbers."""

    requests: int = 0
    """Requests read, of any kind except the demo's own control endpoints."""
    calls: int = 0
    """Inference calls that were computed."""
    items: int = 0
    batch_sizes: Counter[int] = field(default_factory=Counter)
    """Inference calls by number of items."""
    connections: int = 0
    open_connections: int = 0
    """Current, as are `executing` and `queued`."""
    executing: int = 0
    peak_executing: int = 0
    queued: int = 0
    abandoned: int = 0
    """Queued calls that were dropped because their client had left."""
    loads: Counter[str] = field(default_factory=Counter)
    unloads: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """Faults that were put into effect, by name."""
    executions: Counter[str] = field(default_factory=Counter)
    """Computed calls by the value of their ``Demo-Once`` header."""

    def reset(self) -> None:
        """Start counting anew; what is current stays."""
        fresh = Stats(open_connections=self.open_connections, executing=self.executing, queued=self.queued)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def computed(self, items: int, once: bytes | None) -> None:
        """One inference call of `items` items was computed."""
        self.calls += 1
        self.items += items
        self.batch_sizes[items] += 1
        if once is not None:
            self.executions[once.decode("latin-1")] += 1

    def snapshot(self) -> dict[str, object]:
        """A JSON object of all counts; `repeated`: ``Demo-Once`` keys computed more than once."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name != "executions"}
        counts["batch_sizes"] = {str(size): count for size, count in sorted(self.batch_sizes.items())}
        counts["once"] = len(self.executions)
        counts["repeated"] = sum(1 for count in self.executions.values() if count > 1)
        return counts
