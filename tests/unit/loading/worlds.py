"""A planner with an obedient backend: tests say what happens, and read what was decided."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from proxy.loading.actions import Cancel, Load, Refuse, Release, Report, Unload
from proxy.loading.history import History
from proxy.loading.planner import Planner
from proxy.loading.policy import ColdPolicy, LoadingPolicy, ModelLoadPolicy
from proxy.loading.queue import Ticket
from proxy.loading.slot import Slot, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.loading.predictor import Forecast, Hint

GIB = 1 << 30
START = 1_000_000.0


def policy(**changes: object) -> LoadingPolicy:
    """A loading policy in demand mode, with `changes` in plain numbers."""
    return LoadingPolicy().model_copy(update={"mode": "demand", **changes})


def model(**changes: object) -> ModelLoadPolicy:
    """What is declared of a model: by default 1 GiB that loads in 10 s."""
    return ModelLoadPolicy().model_copy(update={"size": GIB, "load_time": 10.0, **changes})


class Oracle:
    """Looks ahead as a test says."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.triggered: list[Forecast] = []
        self.of_season: list[Forecast] = []
        self.asked_for_season: list[list[str]] = []
        self.expected: set[str] = set()

    def arrived(self, model: str, now: float) -> list[Forecast]:
        return self.triggered

    def ended(self, model: str, now: float) -> None:
        pass

    def advance(self, now: float) -> list[Hint]:
        hints, self.hints = self.hints, []
        return hints

    def next_at(self) -> float:
        return inf

    def seasonal(self, models: Iterable[str], now: float) -> list[Forecast]:
        self.asked_for_season.append(list(models))
        return self.of_season

    def is_expected(self, model: str, now: float) -> bool:
        return model in self.expected

    def expected_at(self, model: str) -> float | None:
        return None


class World:
    """Models ``a``, ``b``, … of 1 GiB and 10 s each, in a budget of `places` GiB (0: none)."""

    def __init__(
        self,
        names: str = "abc",
        places: int = 2,
        models: dict[str, ModelLoadPolicy] | None = None,
        history: History | None = None,
        max_wait: float = 1e6,
        queue: int = 256,
        **changes: object,
    ) -> None:
        declared = {name: model() for name in names} | (models or {})
        cold = ColdPolicy().model_copy(update={"max_wait": max_wait, "queue": queue})
        self.oracle = Oracle()
        self.planner = Planner(
            policy(budget=places * GIB, models=declared, cold=cold, **changes),
            history or History(),
            ahead=self.oracle,
        )
        self.now = START
        self.lists(dict.fromkeys(declared, "unloaded"))

    def lists(self, states: dict[str, str], mark: int | None = None, *, after_silence: bool = False) -> bool:
        """The backend lists its models in these states; whether that was taken for a restart."""
        reports = {name: Report(state) for name, state in states.items()}  # type: ignore[arg-type]  # names
        since = self.planner.backend.mark() if mark is None else mark
        found = self.planner.backend.reconcile(reports, since, self.now, after_silence=after_silence)
        return found.has_restarted

    def pass_time(self, span_s: float) -> None:
        """Time passes, and nothing is asked."""
        self.now += span_s

    def slot(self, name: str) -> Slot:
        return self.planner.state.slot(name)

    def state(self, name: str) -> State:
        return self.slot(name).state

    def decide(self) -> list[str]:
        """What is decided now, in words: ``load a``, ``refuse b loading``."""
        return [words(action) for action in self.planner.decide(self.now)]

    def request(self, name: str, within: float = inf) -> Ticket | Refuse | None:
        """A request comes; None when its model is ready."""
        self.planner.observe(name, self.now)
        if self.planner.is_ready(name):
            return None
        return self.planner.wait(name, self.now, self.now + within)

    def wait(self, name: str, within: float = inf) -> Ticket:
        """A request comes that has to wait."""
        ticket = self.request(name, within)
        assert isinstance(ticket, Ticket)
        return ticket

    def finish(self, name: str, run_s: float = 0.0) -> bool:
        """A request ends."""
        return self.planner.finished(name, self.now, run_s)

    def use(self, name: str) -> None:
        """A request comes and ends at once; the model must be ready."""
        assert self.request(name) is None
        self.finish(name)

    def loaded(self, name: str, seconds: float = 10.0) -> list[str]:
        """The running load of `name` ends well; what is decided then."""
        assert self.state(name) is State.LOADING
        self.planner.backend.loaded(name, self.now, seconds)
        return self.decide()

    def unloaded(self, name: str) -> list[str]:
        """The running unload of `name` ends well; what is decided then."""
        assert self.state(name) is State.UNLOADING
        self.planner.backend.unloaded(name, self.now)
        return self.decide()

    def make_ready(self, *names: str) -> None:
        """Load models one after another, each with one request that ended."""
        for name in names:
            self.wait(name)
            assert self.decide() == [f"load {name}"]
            assert self.loaded(name) == [f"release {name}"]
            self.finish(name)


def words(action: object) -> str:
    """An action as a test writes it."""
    match action:
        case Load(model=name) | Unload(model=name) | Cancel(model=name):
            return f"{type(action).__name__.lower()} {name}"
        case Release(ticket=ticket):
            return f"release {ticket.model}"
        case Refuse(ticket=ticket, reason=reason):
            return f"refuse {ticket.model} {reason}"
        case _:
            raise AssertionError(action)
