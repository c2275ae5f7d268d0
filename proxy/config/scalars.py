"""What an unquoted scalar means, and how the environment is filled in.

YAML 1.1 and 1.2 readers disagree about some unquoted scalars: ``no`` is false or a word, ``010`` is 8 or
10, ``1:30`` is 90 or text, ``1_000`` is 1000 or text. Here they are neither: a `Trap`, which is accepted
only as one of the fixed words of its place (``mode: off``) and is a problem anywhere else. Whatever both
agree on is read as both do.

``${env:NAME}`` and ``${env:NAME:-default}`` are filled in after parsing, scalar by scalar, so that no value
can add structure; ``$${`` stands for a literal ``${``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Filled", "Trap", "escape", "fill", "resolve")

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+)")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_YES_NO = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*")
_BASE_60 = re.compile(r"[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+")
_LONGEST_NUMBER = 400  # digits; int() refuses text beyond 4300 and nothing here needs more than ten
_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Trap:
    """A scalar that YAML readers disagree about."""

    text: str
    why: str
    readings: tuple[object, ...]
    """What readers make of it, the likeliest intention first."""


@dataclass(frozen=True, slots=True)
class Filled:
    """Text with its placeholders filled in, from which variables, and what was wrong with the others."""

    text: str
    names: tuple[str, ...]
    errors: tuple[tuple[str, str], ...]
    """(message, suggestion)"""


def resolve(text: str) -> object:
    """The value of the unquoted scalar `text`: None, bool, int, float, str or `Trap`."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if len(text) < _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return _trap(text) or text


def _trap(text: str) -> Trap | None:
    if _YES_NO.fullmatch(text):
        truth = text.lower() in {"yes", "on"}
        return Trap(text, f"to some YAML readers a bare {text} is {str(truth).lower()}", (truth, text))
    if len(text) >= _LONGEST_NUMBER:
        return None
    if _LEADING_ZERO.fullmatch(text):
        return Trap(text, f"to some YAML readers {text} is octal", (int(text), text))
    if _UNDERSCORES.fullmatch(text):
        return Trap(
            text, f"only some YAML readers take {text} for a number", (int(text.replace("_", "")), text)
        )
    if _BASE_60.fullmatch(text):
        return Trap(text, f"to some YAML readers {text} is a number in base 60", (_base_60(text), text))
    return None


def _base_60(text: str) -> int:
    total = 0
    for part in text.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + int(part)
    return -total if text.startswith("-") else total


def fill(text: str, environ: Mapping[str, str]) -> Filled:
    """`text` with every ``${env:…}`` replaced from `environ`."""
    names: list[str] = []
    errors: list[tuple[str, str]] = []

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        variable = _ENVIRONMENT.fullmatch(match[1])
        if variable is None:
            bare = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", match[1])
            errors.append(
                (f"unknown placeholder {match[0]}", f"${{env:{match[1]}}}" if bare else f"${match[0]}")
            )
            return match[0]
        value = environ.get(variable[1])
        if value is not None and not _is_text(value):
            errors.append((f"the environment variable {variable[1]} is not UTF-8", ""))
        elif value is not None:
            names.append(variable[1])
            return value
        elif variable[2] is None:
            errors.append((f"the environment variable {variable[1]} is not set", ""))
        return variable[2] or ""

    filled = _PLACEHOLDER.sub(replacement, text)
    return Filled(filled, tuple(names), tuple(errors))


def _is_text(value: str) -> bool:
    """False for what the operating system could not decode: it arrives as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def escape(text: str) -> str:
    """`text` such that `fill` gives it back."""
    return text.replace("${", "$${")
