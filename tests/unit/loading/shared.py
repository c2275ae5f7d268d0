"""Several planners over one backend, none of which knows of the others: minutes of traffic in no time."""

from __future__ import annotations

from collections import Counter
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

from proxy.loading.actions import Cancel, Load, Refuse, Release, Report, Unload
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.policy import ColdPolicy
from proxy.loading.queue import Ticket
from tests.unit.loading.worlds import GIB, START, model, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("LISTED_EVERY_S", "LOAD_S", "Shared")

LOAD_S = 5.0
LISTED_EVERY_S = 10.0


class Sidecar:
    """One planner's view, and what became of its clients."""

    def __init__(self, names: str, places: int, **changes: Any) -> None:  # noqa: ANN401 - any field
        cold = ColdPolicy().model_copy(update={"max_wait": 1e6})
        declared = {name: model(load_time=LOAD_S) for name in names}
        settings = policy(budget=places * GIB, models=declared, cold=cold, **changes)
        self.planner = Planner(settings, History())
        self.waits: list[float] = []
        self.lost: Counter[str] = Counter()


class Shared:
    """`sidecars` planners in front of one backend whose memory has no limit of its own.

    A load takes `LOAD_S`, an unload no time; requests run for a tenth of a second. Requests that find their
    model gone make their sidecar load it again, and are answered then.
    """

    def __init__(self, names: str = "abc", places: int = 2, sidecars: int = 2, **changes: Any) -> None:  # noqa: ANN401 - any field
        self.now = START
        self.states: dict[str, str] = dict.fromkeys(names, "unloaded")
        self.loads: Counter[str] = Counter()
        self.most_loaded = 0
        self.sidecars = [Sidecar(names, places, **changes) for _ in range(sidecars)]
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._woken: dict[int, float] = {}
        for index in range(sidecars):
            self._at(START + index * LISTED_EVERY_S / sidecars, partial(self._list, index))

    # ------------------------------------------------------------- what happens
    def ask(self, index: int, name: str, at: Iterable[float]) -> None:
        """Clients of one sidecar ask for `name` at these seconds."""
        for offset in at:
            self._at(START + offset, lambda: self._request(index, name))

    def play(self, span_s: float) -> None:
        """Let `span_s` seconds pass."""
        until = self.now + span_s
        while self._heap and self._heap[0][0] <= until:
            self.now, _, event = heappop(self._heap)
            event()
        self.now = until

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now - START

    def wake(self, index: int) -> None:
        """Something was asked of this sidecar: let it decide."""
        self._decide(index)

    def restart(self) -> None:
        """The backend is started anew, with nothing loaded."""
        self.states = dict.fromkeys(self.states, "unloaded")

    # ------------------------------------------------------------- events
    def _at(self, at: float, event: Callable[[], None]) -> None:
        heappush(self._heap, (at, next(self._order), event))

    def _list(self, index: int) -> None:
        backend = self.sidecars[index].planner.backend
        listing = {name: Report(state) for name, state in self.states.items()}  # type: ignore[arg-type]  # states
        backend.reconcile(listing, backend.mark(), self.now)
        self._decide(index)
        self._at(self.now + LISTED_EVERY_S, lambda: self._list(index))

    def _request(self, index: int, name: str) -> None:
        planner = self.sidecars[index].planner
        planner.observe(name, self.now)
        if planner.is_ready(name):
            self._serve(index, name, self.now)
            return
        self._wait(index, name)

    def _wait(self, index: int, name: str) -> None:
        sidecar = self.sidecars[index]
        ticket = sidecar.planner.wait(name, self.now, self.now + 1e6)
        assert isinstance(ticket, Ticket)
        self._decide(index)

    def _serve(self, index: int, name: str, since: float) -> None:
        sidecar = self.sidecars[index]
        if self.states[name] != "ready" and sidecar.planner.backend.not_ready(name, self.now):
            sidecar.lost[name] += 1
            self._wait(index, name)
            return
        sidecar.waits.append(self.now - since)

        def end() -> None:
            if sidecar.planner.finished(name, self.now, 0.1):
                self._decide(index)
            self._plan(index)

        self._at(self.now + 0.1, end)

    def _decide(self, index: int) -> None:
        planner = self.sidecars[index].planner
        while actions := planner.decide(self.now):
            for action in actions:
                self._carry_out(index, action)
        self._plan(index)

    def _plan(self, index: int) -> None:
        """Call the planner when it asks to be called; a call too many does no harm."""
        at = max(self.now, self.sidecars[index].planner.wakeup())
        if self.now < at < self._woken.get(index, inf):
            self._woken[index] = at
            self._at(at, lambda: self._wake(index))

    def _wake(self, index: int) -> None:
        self._woken.pop(index, None)
        self._decide(index)

    def _carry_out(self, index: int, action: object) -> None:
        match action:
            case Load(model=name):
                self.loads[name] += 1
                self.states[name] = "loading" if self.states[name] != "ready" else "ready"
                self._at(self.now + LOAD_S, lambda: self._loaded(index, name))
            case Unload(model=name) | Cancel(model=name):
                self.states[name] = "unloaded"
                self.sidecars[index].planner.backend.unloaded(name, self.now)
            case Release(ticket=ticket):
                self._serve(index, ticket.model, ticket.arrived)
            case Refuse():
                raise AssertionError(action)

    def _loaded(self, index: int, name: str) -> None:
        self.states[name] = "ready"
        self.most_loaded = max(self.most_loaded, sum(s == "ready" for s in self.states.values()))
        self.sidecars[index].planner.backend.loaded(name, self.now, LOAD_S)
        self._decide(index)
