"""One trace under several policies, as a table and as a plot."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from proxy.loading.baselines import Clairvoyant, FixedIdle, HybridHistogram, Lru
from proxy.loading.eviction import Gdsf
from proxy.loading.planner import Planner
from proxy.loading.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proxy.loading.history import Arrival, History
    from proxy.loading.policy import LoadingPolicy
    from proxy.loading.simulate import Model, Result

    Maker = Callable[[LoadingPolicy, History], Planner]

__all__ = ("Row", "baselines", "compare", "contestants", "table")

_HEAD = ("policy", "cold %", "mean wait s", "p95 s", "p99 s", "loads", "load s", "GiB h", "precision %")


class Row(NamedTuple):
    """One policy's result."""

    name: str
    result: Result


def baselines(trace: Sequence[Arrival]) -> dict[str, tuple[str, Maker]]:
    """(mode, planner) by name."""
    return {
        "LRU": ("demand", lambda p, h: Planner(p, h, ahead=FixedIdle(), eviction=Lru())),
        "GDSF": ("demand", lambda p, h: Planner(p, h, ahead=FixedIdle(), eviction=Gdsf())),
        "TTL 5 min": ("demand", lambda p, h: Planner(p, h, ahead=FixedIdle(300.0), eviction=Lru())),
        "TTL 20 min": ("demand", lambda p, h: Planner(p, h, ahead=FixedIdle(1200.0), eviction=Lru())),
        "TTL 60 min": ("demand", lambda p, h: Planner(p, h, ahead=FixedIdle(3600.0), eviction=Lru())),
        "hybrid histogram": (
            "predictive",
            lambda p, h: Planner(p, h, ahead=HybridHistogram(), eviction=Lru()),
        ),
        "clairvoyant": (
            "demand",
            lambda p, h: Planner(p, h, ahead=FixedIdle(), eviction=Clairvoyant(trace)),
        ),
    }


def contestants(trace: Sequence[Arrival], policy: LoadingPolicy) -> dict[str, tuple[LoadingPolicy, Maker]]:
    """(policy, planner) by name: the baselines, then `policy` itself in demand and predictive mode.

    With a budget, also as if predictions might evict: whoever does not allow it sees what it would do.
    """
    found: dict[str, tuple[LoadingPolicy, Maker]] = {
        name: (
            policy.model_copy(update={"mode": mode, "idle_unload": "off", "may_evict": False}),
            make,
        )
        for name, (mode, make) in baselines(trace).items()
    }
    for mode in ("demand", "predictive"):
        found[f"pillion, {mode}"] = policy.model_copy(update={"mode": mode}), Planner
    if policy.budget and not policy.may_evict:
        bold = policy.model_copy(update={"mode": "predictive", "may_evict": True})
        found["pillion, may evict"] = bold, Planner
    return found


def compare(
    trace: Sequence[Arrival],
    policy: LoadingPolicy,
    models: Callable[[str], Model],
    *,
    count_from: float = -inf,
) -> Iterator[Row]:
    """What each of the contestants does with the trace."""
    for name, (rules, make) in contestants(trace, policy).items():
        yield Row(name, simulate(trace, rules, models, make, count_from=count_from))


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [_line(_HEAD), _line((":--", *("--:" for _ in _HEAD[1:])))]
    lines += [_line((row.name, *_figures(row.result))) for row in rows]
    return "\n".join(lines)


def _figures(result: Result) -> tuple[str, ...]:
    return (
        f"{100 * result.cold_rate:.2f}",
        f"{result.mean_wait:.3f}",
        f"{result.wait_quantile(0.95):.1f}",
        f"{result.wait_quantile(0.99):.1f}",
        f"{result.loads:,}",
        f"{result.load_s:,.0f}",
        f"{result.gib_h:,.0f}",
        f"{100 * result.precision:.1f}" if result.precision is not None else "–",
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
