"""Traces of arrivals, from whatever there is: a history snapshot, an access log, a CSV file.

Theory of operation
-------------------
Four formats are told apart by how they begin:

* a history snapshot, ``{"version": …``: its bounded list of recent arrivals, with sizes and load times as
  measured;
* an access log, one JSON object in each line: ``ts`` (ISO 8601), ``model``, ``ms.total``; lines that are
  something
  else, or without a model, are passed over;
* CSV with the columns ``t_s`` and ``model``, and perhaps ``run_s``;
* CSV with the columns ``model``, ``run_s``, ``tick_s``, ``offset_s`` and ``ticks``: arrivals on a grid, as
  ranges of tick numbers
  (``0-59 70 80-1439/5``), in which public traces that count invocations for each minute are kept small.

The result is sorted by time, then by name, so that a trace means the same whatever order it was written in.
"""

from __future__ import annotations

import csv
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from proxy.loading.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.loading.costs import LoadCost
    from proxy.loading.history import Arrival

__all__ = ("Trace", "parse_trace")


class Trace(NamedTuple):
    """Arrivals in order, and what is known of the models' costs."""

    arrivals: list[Arrival]
    costs: dict[str, LoadCost]


class _Spans(msgspec.Struct):
    total: float = 0.0


class _Line(msgspec.Struct):
    ts: str = ""
    model: str = ""
    ms: _Spans = msgspec.field(default_factory=_Spans)


_decode_line = msgspec.json.Decoder(_Line).decode


def parse_trace(text: str) -> Trace:
    """The trace in `text`; ValueError when it is none of the known formats, or empty."""
    costs: dict[str, LoadCost] = {}
    if text.startswith('{"version"'):
        history = History()
        history.restore(msgspec.json.decode(text))
        arrivals = list(history.recent)
        costs = {name: past.cost for name, past in history.models.items()}
    elif text.startswith("{"):
        arrivals = list(_from_log(text))
    else:
        arrivals = list(_from_csv(text))
    if not arrivals:
        raise ValueError("no arrivals in it")
    return Trace(sorted(arrivals), costs)


def _from_log(text: str) -> Iterator[Arrival]:
    for line in text.splitlines():
        try:
            entry = _decode_line(line)
            if entry.model:
                ended = datetime.fromisoformat(entry.ts).timestamp()
                yield ended - entry.ms.total / 1000, entry.model, entry.ms.total / 1000
        except (msgspec.DecodeError, ValueError):
            continue  # a log holds other lines too


def _from_csv(text: str) -> Iterator[Arrival]:
    rows = csv.DictReader(text.splitlines())
    columns = set(rows.fieldnames or ())
    try:
        if {"t_s", "model"} <= columns:
            for row in rows:
                yield float(row["t_s"]), row["model"], float(row.get("run_s") or 0.0)
        elif {"model", "tick_s", "ticks"} <= columns:
            for row in rows:
                yield from _on_grid(row)
        else:
            raise ValueError("expected a history, an access log, or CSV with the columns t_s and model")
    except TypeError as error:
        raise ValueError(f"line {rows.line_num} is cut short") from error


def _on_grid(row: dict[str, str]) -> Iterator[Arrival]:
    tick_s, offset_s, run_s = float(row["tick_s"]), float(row["offset_s"]), float(row["run_s"])
    for part in row["ticks"].split():
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        for tick in range(int(first), int(last or first) + 1, int(step or 1)):
            yield tick * tick_s + offset_s, row["model"], run_s
