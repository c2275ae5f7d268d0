"""A backend without a control interface: its first request loads, and nothing unloads.

Loading is replaying the model's configured warm-up request. The models that have answered one are taken as
loaded until the backend answers otherwise; they stay in the memory budget for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ("ReplayControl",)


class ReplayControl:
    """`warm` sends a model's warm-up request; ControlError when it fails."""

    protocol = "replay"
    can_unload = False
    can_cancel = False

    def __init__(self, warm: Callable[[str], Awaitable[None]]) -> None:
        self._warm = warm
        self._loaded: set[str] = set()

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """The configured models; ready are those that have answered."""
        return {name: Report("ready" if name in self._loaded else "unloaded") for name in names}

    async def load(self, model: str) -> int:
        """Replay the warm-up request."""
        await self._warm(model)
        self._loaded.add(model)
        return 0

    async def unload(self, model: str) -> None:
        """There is no way to."""
        self._loaded.discard(model)
        raise ControlError("refused", "this backend has no way to unload")

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """404 and 503 are what a backend without the model answers."""
        return status in {404, 503}
