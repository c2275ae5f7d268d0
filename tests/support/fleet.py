"""Managed models without a loader, for what stands in front of one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.loading.actions import Prospect, Refuse
from proxy.loading.history import ModelHistory
from proxy.loading.policy import ModelLoadPolicy
from proxy.loading.queue import Ticket
from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from proxy.timing import Deadline

__all__ = ("Fleet",)


class Fleet:
    """Models as a test sets them up; an answer ``cold`` means that one is not loaded after all.

    Each start is looked at by `begun`, which keeps the session that it came with.
    """

    epoch = 1e9

    def __init__(self, **states: str) -> None:
        self.slots = {
            name: Slot(name, ModelLoadPolicy(), ModelHistory(0.0), State(state))
            for name, state in states.items()
        }
        self.sessions: list[str] = []
        self.refusal: Exception | None = None
        self.lost: list[int] = []
        self.run_s: list[float] = []
        self.acts = True

    @property
    def in_flight(self) -> dict[str, int]:
        return {name: slot.in_flight for name, slot in self.slots.items()}

    @property
    def answers(self) -> int:
        return sum(slot.answers for slot in self.slots.values())

    def find(self, model: str) -> Slot | None:
        return next((self.slots[name] for name in (model, f"{model}:latest") if name in self.slots), None)

    def begun(self, slot: Slot, now: float, session: str = "") -> None:
        assert slot.last_used == now >= self.epoch
        self.sessions.append(session)

    def is_ready(self, slot: Slot) -> bool:
        return slot.state is State.READY

    def prospect(self, model: str, deadline: Deadline) -> Prospect | None:
        slot = self.slots.get(model)
        if slot is None:
            return None
        if slot.state is State.READY:
            return Prospect("ready", waits=False)
        refusal = Refuse(Ticket(model, 0, deadline), "full", 9, "3 already wait") if self.refusal else None
        return Prospect(slot.state.value, refusal is None, 2.5, refusal)

    async def ready(self, slot: Slot, deadline: Deadline) -> None:
        await asyncio.sleep(0)
        if self.refusal:
            raise self.refusal
        slot.state = State.READY

    def is_lost(self, slot: Slot, status: int, body: bytes) -> bool:
        if body != b"cold" or slot.state is not State.READY:
            return False
        self.lost.append(status)
        slot.state = State.UNLOADED
        return True

    def finished(self, slot: Slot, now: float, run_s: float) -> None:
        assert now >= self.epoch
        slot.ends(now)
        self.run_s.append(run_s)
