"""Latencies as HdrHistograms: microseconds from 1 to 60 s with three digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("QUANTILES", "decoded", "encoded", "merged", "quantile_ms", "quantiles_ms")

HIGHEST_US = 60_000_000
DIGITS = 3
QUANTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


def encoded(latencies_s: Iterable[float]) -> str:
    """The histogram of these latencies, given in seconds."""
    histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
    for latency_s in latencies_s:
        histogram.record_value(min(max(round(latency_s * 1e6), 1), HIGHEST_US))
    text: bytes = histogram.encode()
    return text.decode("ascii")


def decoded(text: str) -> HdrHistogram:
    """The histogram that `encoded` made."""
    return HdrHistogram.decode(text)


def merged(texts: Iterable[str]) -> HdrHistogram:
    """All of these histograms in one."""
    histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
    for text in texts:
        histogram.decode_and_add(text)
    return histogram


def quantile_ms(histogram: HdrHistogram, percent: float) -> float:
    """The latency that `percent` of the answers did not exceed, in milliseconds."""
    return float(histogram.get_value_at_percentile(percent)) / 1000


def quantiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """The usual quantiles in milliseconds: ``p50`` … ``p99.9``, ``max``."""
    names = {percent: "max" if percent == 100 else f"p{percent:g}" for percent in QUANTILES}
    return {name: quantile_ms(histogram, percent) for percent, name in names.items()}
