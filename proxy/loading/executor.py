"""The loader's hands: every word that is spoken to the backend about its models.

Owned by the loader. One task for each running load or unload; a load is proved by its warm-up request before
it counts. It reports to the planner and then calls `changed`. Nothing here decides anything: a load that
hangs is cancelled, and then unloaded, on the planner's word. It ends with `close`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from proxy.loading.actions import Failure
from proxy.loading.control.base import ControlError, understood
from proxy.loading.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.actions import Cancel, Load, Report, Unload
    from proxy.loading.control.base import Control
    from proxy.loading.planner import Planner
    from proxy.timing import Clock

__all__ = ("Changed", "Connection", "Executor", "LoaderEvents")

_logger = logging.getLogger(__name__)
_UNLOAD_TIMEOUT_S = 60.0
_LISTING_TIMEOUT_S = 10.0
_PASSING = frozenset({"unreachable", "timeout"})  # what may well go better another time


class LoaderEvents(Protocol):
    """Who counts what the loader does."""

    def managed(self, model: str) -> None:
        """`model` is one of the backend's own, or of the configuration."""

    def loaded(self, model: str, cause: str, result: str, span_s: float) -> None:
        """A load ended after `span_s`; `result` is ``ok`` or why it failed."""

    def cold(self, model: str) -> None:
        """A request found its model not loaded."""

    def waited(self, model: str, span_s: float) -> None:
        """A request waited `span_s` for its model, until it was ready or refused."""


class Connection(Protocol):
    """How the backend is reached."""

    async def connect(self) -> Control | None:
        """Its control, or None when it has none; ControlError until it answers."""

    async def warm(self, model: str) -> None:
        """Send the model's warm-up request, if it has one; ControlError."""

    async def close(self) -> None:
        """Release everything."""


class Changed(Protocol):
    """Who wants to know that the planner was told something."""

    def __call__(self, *, is_doubtful: bool = False, renewed: str = "") -> None:
        """`is_doubtful` when the backend had better be asked what it did; `renewed`: what it has loaded."""


class Executor:
    """Carries out loads and unloads; `now` is the planner's axis, `clock` measures spans."""

    def __init__(
        self,
        planner: Planner,
        connector: Connection,
        events: LoaderEvents,
        *,
        clock: Clock,
        now: Callable[[], float],
        changed: Changed,
    ) -> None:
        self.control: Control | None = None
        self._planner = planner
        self._connector = connector
        self._events = events
        self._clock = clock
        self._now = now
        self._changed = changed
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks()

    async def connect(self) -> Control | None:
        """Find out how the backend is controlled; None when it is not. ControlError, TimeoutError."""
        with understood():
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                self.control = await self._connector.connect()
        return self.control

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """What the backend has. ControlError, TimeoutError."""
        with understood():
            async with asyncio.timeout(_LISTING_TIMEOUT_S):
                return await self._controlled().listing(names)

    async def close(self) -> None:
        """Abandon what runs."""
        await self._tasks.cancel()
        await self._connector.close()

    # ------------------------------------------------------------- effects
    def load(self, action: Load) -> None:
        """Begin to load."""
        _logger.info("load %s: %s", action.model, action.why)
        self._loads[action.model] = self._tasks.spawn(self._load(action), f"load-{action.model}")

    def unload(self, action: Unload) -> None:
        """Begin to unload."""
        _logger.info("unload %s: %s", action.model, action.why)
        self._tasks.spawn(self._unload(action.model), f"unload-{action.model}")

    def cancel(self, action: Cancel) -> None:
        """Give up a running load, and unload whatever came of it."""
        _logger.warning("give up loading %s: %s", action.model, action.why)
        self._loads.pop(action.model).cancel()
        self._tasks.spawn(self._unload(action.model), f"unload-{action.model}")

    async def _load(self, action: Load) -> None:
        model = action.model
        began = self._clock.now()
        result = "ok"
        try:
            with understood():
                size = await self._controlled().load(model)
            await self._connector.warm(model)
        except ControlError as error:
            result = error.kind
            _logger.warning("loading %s failed: %s", model, error)
            self._planner.backend.load_failed(model, self._now(), Failure(error.kind, error.detail))
        else:
            self._planner.backend.loaded(model, self._now(), self._clock.now() - began, size)
        del self._loads[model]
        self._events.loaded(model, action.cause, result, self._clock.now() - began)
        self._changed(is_doubtful=result == "unreachable", renewed=model if result == "ok" else "")

    async def _unload(self, model: str) -> None:
        is_doubtful = False
        try:
            with understood():
                async with asyncio.timeout(_UNLOAD_TIMEOUT_S):
                    await self._controlled().unload(model)
        except (ControlError, TimeoutError) as error:
            is_doubtful = True
            detail = str(error) or "no answer"
            is_final = isinstance(error, ControlError) and error.kind not in _PASSING
            _logger.warning("unloading %s failed: %s", model, detail)
            self._planner.backend.unload_failed(model, self._now(), detail, is_final=is_final)
        else:
            self._planner.backend.unloaded(model, self._now())
        self._changed(is_doubtful=is_doubtful)

    def _controlled(self) -> Control:
        if self.control is None:
            raise ControlError("unreachable", "the backend has not answered yet")
        return self.control
