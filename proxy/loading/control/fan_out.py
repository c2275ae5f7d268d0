"""Several equal backends behind one upstream, controlled as one: a model is loaded when it is loaded
everywhere."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from proxy.loading.actions import Report
from proxy.loading.control.base import ControlError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from proxy.loading.control.base import Control

__all__ = ("FanOut",)

_T = TypeVar("_T")
_WORST_FIRST = ("failed", "unloaded", "unloading", "loading", "unknown", "ready")


class FanOut:
    """The same verbs for all of `controls`, at least one, at once."""

    def __init__(self, controls: Sequence[Control]) -> None:
        self._controls = tuple(controls)
        self.protocol = self._controls[0].protocol
        self.can_unload = all(control.can_unload for control in self._controls)
        self.can_cancel = all(control.can_cancel for control in self._controls)

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """For each model the least ready of the backends' reports, with the largest size."""
        listings = await _all([control.listing(names) for control in self._controls])
        merged = {}
        for name in dict.fromkeys(name for listing in listings for name in listing):
            reports = [listing.get(name, Report("unloaded")) for listing in listings]
            worst = min(reports, key=lambda report: _WORST_FIRST.index(report.state))
            merged[name] = worst._replace(size=max(report.size for report in reports))
        return merged

    async def load(self, model: str) -> int:
        """Load everywhere, or nowhere; what is loaded already is no work."""
        try:
            return max(await _all([control.load(model) for control in self._controls]))
        except ControlError:  # a part of the backends would hold memory for nothing
            with suppress(ControlError):
                await self.unload(model)
            raise

    async def unload(self, model: str) -> None:
        """Unload everywhere."""
        await _all([control.unload(model) for control in self._controls])

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """They speak the same dialect."""
        return self._controls[0].is_not_ready(status, body)


async def _all(calls: Sequence[Coroutine[object, object, _T]]) -> list[_T]:
    """The results of all `calls`; the first failure is raised once the others have ended too."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
