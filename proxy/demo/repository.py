"""Which models exist and which of them are loaded. The time that a load takes is the server's to spend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from proxy.demo.models import KINDS, Model
from proxy.demo.open_inference import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.demo.options import ModelSpec

__all__ = ("Repository", "Slot", "State")

State = Literal["READY", "LOADING", "UNAVAILABLE"]


class Slot:
    """One model with its state. One with a load time starts unloaded."""

    __slots__ = ("model", "spec", "state")

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.model: Model = KINDS[spec.kind]()
        self.state: State = "UNAVAILABLE" if spec.load_s > 0 else "READY"


class Repository:
    """All models by name, in the order in which they were declared."""

    def __init__(self, specs: Iterable[ModelSpec]) -> None:
        self.slots = {spec.name: Slot(spec) for spec in specs}

    def index(self) -> list[dict[str, str]]:
        """What ``POST /v2/repository/index`` shows."""
        return [
            {"name": name, "version": VERSION, "state": slot.state, "reason": ""}
            for name, slot in self.slots.items()
        ]
