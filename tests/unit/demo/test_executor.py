from collections.abc import Callable
from functools import partial

from proxy.demo.executor import Executor


class FakeTimer:
    """Collects callbacks with their spans; `fire` runs the oldest."""

    def __init__(self) -> None:
        self.pending: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, span_s: float, callback: Callable[[], object]) -> None:
        self.pending.append((span_s, callback))

    def fire(self) -> None:
        self.pending.pop(0)[1]()


def executor(parallelism: int) -> tuple[Executor, FakeTimer, list[str]]:
    timer, log = FakeTimer(), list[str]()
    return Executor(timer, parallelism, lambda: log.append("dropped")), timer, log


def test_work_beyond_the_slots_waits_its_turn() -> None:
    slots, timer, log = executor(2)
    for name in "abc":
        slots.submit(1.0, partial(log.append, name))
    assert (slots.running, slots.queued) == (2, 1)
    timer.fire()
    assert (slots.running, slots.queued, log) == (2, 0, ["a"])
    timer.fire()
    timer.fire()
    assert (slots.running, log) == (0, ["a", "b", "c"])


def test_no_limit() -> None:
    slots, timer, _ = executor(0)
    for span_s in (1.0, 2.0, 3.0):
        slots.submit(span_s, lambda: None)
    assert slots.running == 3
    assert [span_s for span_s, _ in timer.pending] == [1.0, 2.0, 3.0]


def test_queued_work_that_is_cancelled_never_begins() -> None:
    slots, timer, log = executor(1)
    slots.submit(1.0, lambda: log.append("a"))
    job = slots.submit(1.0, lambda: log.append("b"))
    slots.submit(1.0, lambda: log.append("c"))
    job.cancel()
    timer.fire()
    assert log == ["dropped", "a"]
    timer.fire()
    assert log == ["dropped", "a", "c"]
    assert (slots.running, timer.pending) == (0, [])


def test_work_in_progress_keeps_its_slot_when_cancelled() -> None:
    slots, timer, log = executor(1)
    job = slots.submit(1.0, lambda: log.append("a"))
    job.cancel()
    assert slots.running == 1
    timer.fire()
    assert (slots.running, log) == (0, [])
