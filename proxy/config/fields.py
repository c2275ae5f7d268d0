"""Field types of the YAML: spans, sizes and shares with their units, and the base of every policy struct.

A policy struct sits beside the logic that obeys it; `config.model` only composes them. Whoever writes a bare
number where a unit is due gets an error, because `timeout: 30` has meant seconds, milliseconds and minutes
in one team before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

__all__ = (
    "Duration",
    "Policy",
    "Secret",
    "SecretText",
    "Share",
    "Size",
    "Written",
    "format_duration",
    "format_share",
    "format_size",
    "parse_duration",
    "parse_share",
    "parse_size",
)


@dataclass(frozen=True, slots=True)
class Written:
    """Annotation mark: in YAML the field is text of this kind, whatever Python type it becomes."""

    kind: str
    """What the reference calls it: ``duration``, ``size``, ``share``, ``address``, ``url``."""


_SPAN_UNITS = {  # microseconds; whole ones, so that what is written and what is dumped are the same number
    "us": 1,
    "ms": 10**3,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}
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
_SPAN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(us|ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,12})?)(B|KiB|MiB|GiB|TiB|kB|MB|GB)")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,12})?)%")
_LONGEST_SPAN_US = 3650 * _SPAN_UNITS["d"]  # ten years: within what any event loop's timer accepts
_LARGEST_SIZE = 1 << 50  # a pebibyte: exact as a float


def parse_duration(value: object) -> float:
    """Seconds (to the microsecond) of ``50ms``, ``30s``, ``10m``; ValueError for all else, a bare number
    included."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration with its unit, such as 50ms, 30s or 10m")
    span_us = round(float(match[1]) * _SPAN_UNITS[match[2]])
    if span_us > _LONGEST_SPAN_US:
        raise ValueError("the longest duration is 3650d")
    return span_us / 10**6


def parse_size(value: object) -> int:
    """Bytes of ``64KiB``, ``8MiB``; ValueError for anything else, a bare number included."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a size with its unit, such as 64KiB or 8MiB")
    size = round(float(match[1]) * _SIZE_UNITS[match[2]])
    if size > _LARGEST_SIZE:
        raise ValueError("the largest size is 1024TiB")
    return size


def parse_share(value: object) -> float:
    """The fraction 0..1 (to a millionth) of ``20%``; ValueError for anything else, a bare number included."""
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("expected a share between 0% and 100%, such as 20%")
    return round(float(match[1]) * 10**4) / 10**6


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back: ``50ms``, ``30s``, ``10m``."""
    span_us = round(seconds * 10**6)
    for unit in ("d", "h", "m", "s", "ms"):
        if span_us and span_us % _SPAN_UNITS[unit] == 0:
            return f"{span_us // _SPAN_UNITS[unit]}{unit}"
    return f"{span_us}us" if span_us else "0s"


def format_size(size: int) -> str:
    """The shortest spelling that `parse_size` reads back: ``64KiB``, ``0B``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def format_share(share: float) -> str:
    """The shortest spelling that `parse_share` reads back: ``20%``, ``0.1%``."""
    whole, rest = divmod(round(share * 10**6), 10**4)
    return f"{whole}.{rest:04}".rstrip("0").rstrip(".") + "%"


class Secret:
    """A value that never shows itself: not in a dump, a log line, a traceback or a status page.

    `file` is where it was read from, or "" when it stands in the YAML (or in the environment) itself.
    """

    __slots__ = ("_value", "file")

    def __init__(self, value: str, file: str = "") -> None:
        self._value = value
        self.file = file

    def reveal(self) -> str:
        """The value itself, for whoever has to send or compare it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.file) == (other._value, other.file)

    def __hash__(self) -> int:
        return hash((self._value, self.file))

    def __repr__(self) -> str:
        return "***"


def _as_secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    raise ValueError("expected {file: path}, or text such as ${env:NAME}")


def _redacted(secret: Secret) -> str | dict[str, str]:
    return {"file": secret.file} if secret.file else "***"


SecretText = Annotated[
    Secret,
    Written("secret"),
    PlainValidator(_as_secret),
    PlainSerializer(_redacted, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string"}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
"""A secret, written ``{file: path}`` or ``${env:NAME}``."""

Duration = Annotated[
    float,
    Written("duration"),
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SPAN.pattern}$", "examples": ["50ms", "30s", "10m"]}),
]
"""A span in seconds, written with its unit."""

Size = Annotated[
    int,
    Written("size"),
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64KiB", "8MiB"]}),
]
"""A number of bytes, written with its unit."""

Share = Annotated[
    float,
    Written("share"),
    BeforeValidator(parse_share),
    PlainSerializer(format_share, return_type=str),
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
