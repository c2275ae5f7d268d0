"""Replays of traces, on every core and each of them once.

`Replays` owns the worker processes, which end with its block. A trace is sent along with each replay: that
takes a fiftieth of what the replay itself does."""

from __future__ import annotations

import json
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Self

from proxy.loading.actions import Report as Listed
from proxy.loading.comparison import Row, contestants
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.simulate import Result, Simulation, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from proxy.loading.history import Arrival
    from proxy.loading.policy import LoadingPolicy

__all__ = ("Replays", "Restart", "Scene")


@dataclass(frozen=True, slots=True)
class Scene:
    """A trace, budgets in GB, and the instant from which requests count."""

    name: str
    title: str
    trace: Sequence[Arrival]
    budgets: tuple[int, ...]
    count_from: float

    @property
    def middle(self) -> int:
        """The budget at which policies differ most."""
        return self.budgets[len(self.budgets) // 2]


@dataclass(frozen=True, slots=True)
class Restart:
    """Everything is lost at the instant `at_s`; traffic comes back `pause_s` later, as readiness allows."""

    at_s: float
    pause_s: float


class Replays:
    """Results to come, by scene, policy and contestant."""

    def __init__(self) -> None:
        self._workers = ProcessPoolExecutor()
        self._results: dict[tuple[str, str, str], Future[Result]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(cancel_futures=True)

    def start(self, scene: Scene, policy: LoadingPolicy, name: str) -> Future[Result]:
        """What the contestant `name` does with the scene's trace."""
        key = (scene.name, policy.model_dump_json(), name)
        if key not in self._results:
            self._results[key] = self._workers.submit(_replay, scene, policy, name)
        return self._results[key]

    def rows(self, scene: Scene, policy: LoadingPolicy, only: frozenset[str] | None = None) -> list[Row]:
        """All contestants, or those in `only`."""
        names = [name for name in contestants((), policy) if only is None or name in only]
        begun = [self.start(scene, policy, name) for name in names]
        return [Row(name, each.result()) for name, each in zip(names, begun, strict=True)]

    def restart(self, scene: Scene, policy: LoadingPolicy, restart: Restart) -> Future[Result]:
        """What requests see after a restart, in the policy's mode; in mode ``off``: had there been none."""
        return self._workers.submit(_after_restart, scene, policy, restart)


def _replay(scene: Scene, policy: LoadingPolicy, name: str) -> Result:
    rules, make = contestants(scene.trace, policy)[name]
    return _slim(simulate(scene.trace, rules, make=make, count_from=scene.count_from))


def _after_restart(scene: Scene, policy: LoadingPolicy, restart: Restart) -> Result:
    at, back = restart.at_s, restart.at_s + restart.pause_s
    names = sorted({name for _, name, _ in scene.trace})
    trace = [arrival for arrival in scene.trace if not at <= arrival[0] < back]
    before = _simulation(policy.model_copy(update={"mode": "demand"}), History(), count_from=at)
    before.manage(names, scene.trace[0][0])
    if policy.mode == "off":
        return _slim(before.run(trace))
    before.run(trace, until=at)
    history = History()
    history.restore(json.loads(json.dumps(before.planner.history.dump())))
    after = _simulation(policy, history)
    after.manage(names, at)
    after.planner.backend.reconcile(
        {name: Listed("unloaded") for name in names}, after.planner.backend.mark(), at
    )
    after.wake(at)
    return _slim(after.run([arrival for arrival in trace if arrival[0] >= at]))


def _simulation(policy: LoadingPolicy, history: History, count_from: float = -inf) -> Simulation:
    patient = policy.cold.model_copy(update={"max_wait": inf, "queue": 1 << 30})
    planner = Planner(policy.model_copy(update={"cold": patient}), history)
    return Simulation(planner, count_from=count_from)


def _slim(result: Result) -> Result:
    """Without the log, which nobody reads and which is most of it."""
    result.log.clear()
    return result
