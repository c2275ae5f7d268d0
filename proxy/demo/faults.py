"""Faults on request: what a backend does wrong, in words that fit into a request header.

    Demo-Fault: stall=0.5, close-at=17
    Demo-Fault: close-after; every=10; times=3; path=/v2

Faults are separated by commas. `every=N` puts one into effect on each N-th request, `times=N` at most N
times, `path=P` only on paths that start with P. The same words set the faults of the whole server, by
``PUT /demo/faults`` (the body is the text; empty: none) or by `DemoOptions.faults`.

| fault | effect |
|---|---|
| ``status=N`` | answers N without computing anything |
| ``count=D`` | D predictions more (or, negative, fewer) than items |
| ``length=D`` | a Content-Length D too large, then FIN; negative: too small, surplus bytes follow |
| ``stall=S`` | S seconds of silence before the first byte |
| ``slow=R`` | R bytes per second |
| ``garbage`` | bytes that are not HTTP, then FIN |
| ``close-at=N``, ``reset-at=N`` | FIN or RST after N bytes of the answer |
| ``close-after`` | FIN right after the answer, without having said so |
| ``timeout-408=S`` | S seconds after the answer a 408 with ``Connection: close``, then FIN |
| ``unsolicited=S`` | S seconds after the answer an answer that nobody asked for; the connection stays |

A fault that changes the answer is applied to the `Answer`; one that changes the wire rewrites the script of
`Step` that sends it. Both are pure: the connection only plays what it gets.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.demo.messages import Answer, Close, Reset, Send, Step, Wait, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ("FAULTS", "Fault", "FaultPlan", "FaultSyntaxError", "alter", "forced_status", "parse", "rewrite")

FAULTS = frozenset({
    "status", "count", "length", "stall", "slow", "garbage", "close-at", "reset-at",
    "close-after", "timeout-408", "unsolicited",
})  # fmt: skip

GARBAGE = b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nstray"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
SLOW_TICK_S = 0.01


class FaultSyntaxError(ValueError):
    """The words do not name a fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `value` is 0 where none was given."""

    name: str
    value: float = 0.0
    every: int = 1
    times: int = 0
    path: str = ""


def parse(text: str) -> list[Fault]:
    """The faults that `text` names; raises `FaultSyntaxError`."""
    return [_parse_one(part) for part in text.split(",") if part.strip()]


def _parse_one(text: str) -> Fault:
    head, *settings = (part.strip() for part in text.split(";"))
    name, _, value = head.partition("=")
    if name not in FAULTS:
        raise FaultSyntaxError(f"unknown fault {name!r}; there are {', '.join(sorted(FAULTS))}")
    options = dict(setting.partition("=")[::2] for setting in settings)
    try:
        fault = Fault(
            name,
            float(value or 0),
            int(options.pop("every", 1)),
            int(options.pop("times", 0)),
            options.pop("path", ""),
        )
    except ValueError:
        raise FaultSyntaxError(f"not a number in {text!r}") from None
    if options or fault.every < 1:
        raise FaultSyntaxError(f"{text!r}: settings are every=N (at least 1), times=N, path=P")
    return fault


class FaultPlan:
    """The server's standing faults, with their counts."""

    __slots__ = ("_fired", "_seen", "faults")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.replace(",".join(texts))

    def replace(self, text: str) -> None:
        """From now on the faults of `text` and no others."""
        self.faults = parse(text)
        self._seen = [0] * len(self.faults)
        self._fired = [0] * len(self.faults)

    def due(self, path: str) -> list[Fault]:
        """The faults that this request, on `path`, meets."""
        due = []
        for i, fault in enumerate(self.faults):
            if not path.startswith(fault.path):
                continue
            self._seen[i] += 1
            if self._seen[i] % fault.every == 0 and not 0 < fault.times <= self._fired[i]:
                self._fired[i] += 1
                due.append(fault)
        return due


def forced_status(faults: list[Fault]) -> int | None:
    """The status to answer instead of computing anything, if there is one."""
    return next((int(fault.value) for fault in faults if fault.name == "status"), None)


def alter(answer: Answer, faults: list[Fault]) -> Answer:
    """The answer with its content falsified."""
    for fault in faults:
        if fault.name == "count":
            answer.body = _miscount(answer.body, int(fault.value))
        elif fault.name == "length":
            answer.declared = len(answer.body) + int(fault.value)
    return answer


def _miscount(body: bytes, delta: int) -> bytes:
    document = json.loads(body)
    for key in ("predictions", "data"):
        if isinstance(document.get(key), list):
            document[key] = _resized(document[key], delta, stride=1)
    for output in document.get("outputs", ()):
        rows, *rest = output["shape"]
        nested = bool(output["data"]) and isinstance(output["data"][0], list)
        stride = 1 if nested or not rest else rest[0]
        output["shape"][0] = rows + delta
        output["data"] = _resized(output["data"], delta, stride)
    return encode_json(document)


def _resized(values: list[object], delta: int, stride: int) -> list[object]:
    if delta < 0:
        return values[: delta * stride]
    return values + values[-stride:] * delta


def rewrite(steps: Iterator[Step], faults: list[Fault]) -> Iterator[Step]:
    """The script that sends the answer, with the wire's faults in it."""
    for fault in faults:
        match fault.name:
            case "garbage":
                steps = iter((Send(GARBAGE), Close()))
            case "slow":
                steps = _slowed(steps, fault.value)
            case "close-at":
                steps = _cut(steps, int(fault.value), Close())
            case "reset-at":
                steps = _cut(steps, int(fault.value), Reset())
            case "close-after":
                steps = itertools.chain(steps, (Close(),))
            case "length" if fault.value > 0:
                steps = itertools.chain(steps, (Close(),))
            case "timeout-408":
                steps = itertools.chain(steps, (Wait(fault.value), Send(TIMED_OUT), Close()))
            case "unsolicited":
                steps = itertools.chain(steps, (Wait(fault.value), Send(STRAY)))
    stall_s = sum(fault.value for fault in faults if fault.name == "stall")
    return itertools.chain((Wait(stall_s),), steps) if stall_s else steps


def _slowed(steps: Iterator[Step], bytes_per_s: float) -> Iterator[Step]:
    size = max(1, int(bytes_per_s * SLOW_TICK_S))
    for step in steps:
        if not isinstance(step, Send):
            yield step
            continue
        for at in range(0, len(step.data), size):
            piece = step.data[at : at + size]
            yield Send(piece)
            yield Wait(len(piece) / bytes_per_s)


def _cut(steps: Iterator[Step], limit: int, ending: Close | Reset) -> Iterator[Step]:
    left = limit
    for step in steps:
        if isinstance(step, Send):
            if left <= len(step.data):
                yield Send(step.data[:left])
                yield ending
                return
            left -= len(step.data)
        yield step
    yield ending
