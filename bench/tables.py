"""Markdown tables of measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.statistics import Spread

__all__ = ("count", "factor", "markdown", "milliseconds")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the rest to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def count(value: Spread) -> str:
    """``36,000 (35,100 … 36,400)``."""
    return f"{value.median:,.0f} ({value.least:,.0f} … {value.most:,.0f})"


def factor(value: Spread) -> str:
    """``1.38 (1.31 … 1.40)``."""
    return f"{value.median:.2f} ({value.least:.2f} … {value.most:.2f})"


def milliseconds(value: Spread) -> str:
    """``0.180 (0.171 … 0.190)``."""
    return f"{value.median:.3f} ({value.least:.3f} … {value.most:.3f})"
