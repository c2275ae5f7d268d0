"""Field types of the YAML: spans, sizes and shares with their units, and the base of every policy struct.

A policy struct sits beside the logic that obeys it; `config.model` only composes them. Whoever writes a bare
number where a unit is due gets an error, because `timeout: 30` has meant seconds, milliseconds and minutes
in one team before.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

__all__ = (
    "Duration",
    "Policy",
    "Share",
    "Size",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_share",
    "parse_size",
)

_SPAN_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB|kB|MB|GB)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


def parse_duration(value: object) -> float:
    """Seconds of ``50ms``, ``30s``, ``10m``; ValueError for anything else, a bare number included."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, such as 50ms, 30s or 10m")
    return float(match[1]) * _SPAN_UNITS[match[2]]


def parse_size(value: object) -> int:
    """Bytes of ``64KiB``, ``8MiB``; ValueError for anything else, a bare number included."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size with its unit, such as 64KiB or 8MiB")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


def parse_share(value: object) -> float:
    """The fraction 0..1 of ``20%``; ValueError for anything else, a bare number included."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("expected a share between 0% and 100%, such as 20%")
    return float(match[1]) / 100


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back: ``50ms``, ``30s``, ``10m``."""
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _SPAN_UNITS[unit]
        if count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{unit}"
    return f"{round(seconds * 1e6)}us" if seconds else "0s"


def format_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back: ``64KiB``, ``0B``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _format_share(share: float) -> str:
    return f"{share * 100:g}%"


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SPAN.pattern}$", "examples": ["50ms", "30s", "10m"]}),
]
"""A span in seconds, written with its unit."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64KiB", "8MiB"]}),
]
"""A number of bytes, written with its unit."""

Share = Annotated[
    float,
    BeforeValidator(parse_share),
    PlainSerializer(_format_share, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHARE.pattern}$", "examples": ["20%"]}),
]
"""A fraction between 0 and 1, written as a percentage."""


class Policy(BaseModel):
    """Base of every policy struct: immutable, unknown keys refused, defaults not re-validated.

    Field docstrings say the unit and *per what* a number applies; they become the JSON Schema's descriptions.
    Defaults are written in code as plain numbers (seconds, bytes, fractions).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=True
    )
