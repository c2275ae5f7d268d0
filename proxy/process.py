"""The process that serves: its event loop, its signals, its garbage collector.

It builds one `App` and runs it until the lifecycle is asked to leave.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

import uvloop

from proxy import heap
from proxy.app import build
from proxy.timing import LoopClock

if TYPE_CHECKING:
    from proxy.config.load import Loaded

__all__ = ("run",)

_YOUNG_OBJECTS: Final = 10_000  # several hundred calls in flight; looking at so many takes a few milliseconds


def run(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT; OSError when a listener cannot be bound."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(loaded))


def _spare_the_collector() -> None:
    """Let the garbage collector look at less, less often.

    What a call is made of is freed by reference counts when its answer has left; only calls in flight are
    there to be looked at, and with the usual threshold that is done after every few of them.
    """
    gc.collect()
    gc.freeze()  # modules, classes, configuration: nothing of it ever becomes garbage
    gc.set_threshold(_YOUNG_OBJECTS, 10, 10)


async def _serve(loaded: Loaded) -> None:
    app = build(loaded, LoopClock(), time.time)  # noqa: TID251  the one place that may read the wall clock
    _spare_the_collector()
    heap.collapse()
    with app.life.signals():
        await app.run()
