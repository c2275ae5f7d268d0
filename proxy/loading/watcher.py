"""Watches the backend: finds its dialect, then lists its models again and again.

Owned by the loader, which runs it as a task until it is cancelled. It waits for the backend and for its next
turn: the configured span, half a second while somebody else's load is under way, or `look_soon`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.config.fields import format_size
from proxy.loading.control.base import ControlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.executor import Executor, LoaderEvents
    from proxy.loading.planner import Planner
    from proxy.timing import Clock

__all__ = ("Watcher",)

_logger = logging.getLogger(__name__)
_SOON_S = 0.5
_TELLS_SIZES = frozenset({"ollama", "torchserve"})  # with the first load


class Watcher:
    """Tells `planner` what the backend has, and calls `turn` after each look.

    `now` is the planner's axis, `clock` measures spans; `renewed` is told of every model that somebody else
    has loaded, `reached` when the backend answers that did not before.
    """

    def __init__(
        self,
        planner: Planner,
        executor: Executor,
        events: LoaderEvents,
        *,
        clock: Clock,
        now: Callable[[], float],
        renewed: Callable[[str], None],
        reached: Callable[[], None],
        turn: Callable[[], None],
    ) -> None:
        self.protocol = ""
        self._reached = reached
        self._is_silent = True
        self._warned_of: set[str] = set()
        self._planner = planner
        self._executor = executor
        self._events = events
        self._clock = clock
        self._now = now
        self._renewed = renewed
        self._turn = turn
        self._look = asyncio.Event()

    def look_soon(self) -> None:
        """List the models now rather than at the next turn."""
        self._look.set()

    async def run(self) -> None:
        """Look again and again; ends only when there is nothing to look at."""
        while True:
            try:
                if self._executor.control is None and not await self._find():
                    return
                await self._reconcile()
            except (ControlError, TimeoutError) as error:
                _logger.info("models not listed: %s", error or "no answer")
                self._is_silent = True
                self._planner.backend.silent(self._now())
                self._turn()
            loading = self._planner.state.residency.loading.values()
            is_foreign = any(slot.cause == "foreign" for slot in loading)
            await self._pause(_SOON_S if is_foreign else self._planner.policy.control.every)

    async def _find(self) -> bool:
        control = await self._executor.connect()
        if control is None:
            self.protocol = "none"
            _logger.log(
                logging.WARNING if self._planner.state.acts else logging.INFO,
                "the backend offers no way to load models, so none are managed; if it does, name it in "
                "loading.control.protocol",
            )
            return False
        self.protocol = control.protocol
        self._planner.backend.limit(can_unload=control.can_unload, can_cancel=control.can_cancel)
        return True

    async def _reconcile(self) -> None:
        planner = self._planner
        names = tuple(dict.fromkeys((*planner.policy.preload, *planner.policy.models)))
        mark = planner.backend.mark()
        listing = await self._executor.listing(names)
        after_silence, self._is_silent = self._is_silent, False
        if after_silence:
            self._reached()
        found = planner.backend.reconcile(listing, mark, self._now(), after_silence=after_silence)
        for model in found.renewed:
            self._renewed(model)
        if found.has_restarted:
            _logger.warning("the backend has restarted: loading what was most valuable")
        for model in planner.state.residency.slots:
            self._events.managed(model)
        self._warn_of_guesses()
        self._turn()

    def _warn_of_guesses(self) -> None:
        """A budget without sizes is kept by guesses: say so, once for each model."""
        if not self._planner.policy.budget or self.protocol in _TELLS_SIZES:
            return
        slots = self._planner.state.residency.slots.values()
        unknown = sorted(s.name for s in slots if not s.cost.is_size_known and s.name not in self._warned_of)
        if unknown:
            self._warned_of.update(unknown)
            some = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            size = format_size(self._planner.state.slot(unknown[0]).cost.size)
            _logger.warning(
                "loading.budget is set, but not the size of %d models (%s): each counts as %s, "
                "declare loading.models.<name>.size",
                len(unknown),
                some,
                size,
            )

    async def _pause(self, span_s: float) -> None:
        """Return once `look_soon` was called or `span_s` has passed."""
        timer = self._clock.call_at(self._clock.now() + span_s, self._look.set)
        try:
            await self._look.wait()
        finally:
            timer.cancel()
            self._look.clear()
