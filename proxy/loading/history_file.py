"""Where the history outlives the process: one JSON file, replaced whole.

`HistoryKeeper` is owned by the loader, which runs it as a task: it writes a snapshot now and then until it is
cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from proxy.loading.history import History
    from proxy.timing import Clock

__all__ = ("HistoryKeeper", "read_history", "write_file")

_logger = logging.getLogger(__name__)


class HistoryKeeper:
    """Keeps `history` in the file at `path`, written every `every_s` seconds; an empty path keeps nothing."""

    def __init__(self, path: str, history: History, clock: Clock, every_s: float) -> None:
        self._path = path
        self._history = history
        self._clock = clock
        self._every_s = every_s

    async def read(self) -> None:
        """Take over what the file holds, if it can be understood."""
        if self._path:
            problem = await asyncio.to_thread(read_history, self._path, self._history)
            if problem:
                _logger.warning("history not usable, starting without: %s", problem)

    async def run(self) -> None:
        """Write a snapshot now and then, for ever."""
        due = asyncio.Event()
        while self._path:
            timer = self._clock.call_at(self._clock.now() + self._every_s, due.set)
            try:
                await due.wait()
            finally:
                timer.cancel()
                due.clear()
            await self.write()

    async def write(self) -> None:
        """Write a snapshot now; a full disk costs the snapshot, nothing else."""
        if not self._path:
            return
        data = msgspec.json.encode(self._history.dump())
        try:
            await asyncio.to_thread(write_file, self._path, data)
        except OSError as error:
            _logger.warning("history not written: %s", error)


def read_history(path: str, history: History) -> str:
    """Fill `history` from the file at `path`; why that was not possible, or empty.

    A file that does not exist yet is no problem. One that cannot be understood is set aside, not overwritten.
    """
    file = Path(path)
    try:
        history.restore(msgspec.json.decode(file.read_bytes()))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        with contextlib.suppress(OSError):
            file.replace(f"{path}.unreadable")
        return f"{path}: {error}"
    return ""


def write_file(path: str, data: bytes) -> None:
    """Replace the file at `path` by `data`, so that a crash leaves the old or the new one whole. OSError.

    Each draft has a name of its own: a write that was given up at exit may still run beside the last one.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f"{Path(path).name}.", suffix=".new", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
