"""What the gate does with a loader for a client, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.loading.loader import Loader
    from proxy.loading.slot import Slot
    from proxy.timing import Clock, Deadline

__all__ = ("Client",)


class Client:
    """Clients of one loader; the models they ask for are managed."""

    def __init__(self, loader: Loader, clock: Clock) -> None:
        self.loader = loader
        self._clock = clock

    def slot(self, name: str) -> Slot:
        slot = self.loader.find(name)
        assert slot is not None
        return slot

    async def ask(self, name: str, deadline: Deadline) -> None:
        """Begin a request; returns when it may go on, and `end` is to follow then."""
        slot = self.begin(name)
        try:
            if not self.loader.is_ready(slot):
                await self.loader.ready(slot, deadline)
        except BaseException:
            self.end(name)
            raise

    def begin(self, name: str) -> Slot:
        slot, now = self.slot(name), self._now()
        if not slot.begins(now):
            self.loader.begun(slot, now)
        return slot

    def end(self, name: str, run_s: float = 0.0) -> None:
        self.loader.finished(self.slot(name), self._now(), run_s)

    def is_loaded(self, name: str) -> bool:
        return self.slot(name).state == "ready"

    def _now(self) -> float:
        return self._clock.now() + self.loader.epoch
