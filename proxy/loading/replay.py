"""``pillion replay``: a recorded or public trace under the configured policy, beside others."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.config.fields import format_size
from proxy.loading.chart import plot
from proxy.loading.comparison import compare, table
from proxy.loading.simulate import Model, assign
from proxy.loading.trace import parse_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.trace import Trace

__all__ = ("read_trace", "replay", "worlds")


def read_trace(path: str) -> Trace:
    """The trace in a file, gzipped or not. OSError, ValueError."""
    data = Path(path).read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    return parse_trace(data.decode())


def worlds(trace: Trace, policy: LoadingPolicy) -> tuple[Callable[[str], Model], int]:
    """(what each model costs, how many of them were guessed): declared, else measured, else assigned."""
    names = {name for _, name, _ in trace.arrivals}
    known: dict[str, Model] = {}
    for name in names:
        declared, measured, guess = policy.models.get(name), trace.costs.get(name), assign(name)
        load_s = declared.load_time if declared is not None else None
        size = declared.size if declared is not None else None
        if load_s is None and measured is not None and measured.samples:
            load_s = measured.seconds
        if size is None and measured is not None and measured.is_size_known:
            size = measured.size
        if load_s is not None or size is not None:
            known[name] = Model(
                guess.load_s if load_s is None else load_s, guess.size if size is None else size
            )
    return lambda name: known.get(name) or assign(name), len(names) - len(known)


def replay(path: str, policy: LoadingPolicy, plot_to: str = "") -> str:
    """The table for the trace at `path`; the plot goes to the file `plot_to`. OSError, ValueError."""
    trace = read_trace(path)
    models, guessed = worlds(trace, policy)
    rows = list(compare(trace.arrivals, policy, models))
    span_h = (trace.arrivals[-1][0] - trace.arrivals[0][0]) / 3600
    count = len({name for _, name, _ in trace.arrivals})
    title = f"{len(trace.arrivals):,} requests for {count} models in {span_h:.1f} h"
    if plot_to:
        Path(plot_to).write_text(plot(rows, title), encoding="utf-8")
    note = (
        f"\n\n{guessed} models without a known size and load time were given one by their name."
        if guessed
        else ""
    )
    refused = max(row.result.refused for row in rows)
    if refused:
        budget = format_size(policy.budget) if policy.budget else f"{policy.max_models} places"
        note += f"\n\n{refused:,} requests were for models that never fit into {budget}: refused at once."
    return f"{title}\n\n{table(rows)}{note}"
