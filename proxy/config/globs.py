"""Globs on model names, and which of several that match has the last word.

``*`` stands for any run of characters, ``?`` for exactly one; everything else is literal and case counts.
The most specific glob wins:

1. a name without wildcards beats every glob;
2. else the glob with more literal characters wins;
3. else the one with more ``?`` (each demands a character);
4. else the one that is listed first.

``*`` alone is therefore always the least specific. What a glob does not say is inherited from the next less
specific one that matches the same name, field by field.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Globs", "check_glob")


def check_glob(glob: str) -> str:
    """`glob` itself when it is well formed; ValueError otherwise."""
    if not glob:
        raise ValueError("a model glob is not empty")
    if "**" in glob:
        raise ValueError("write * once: ** means no more")
    return glob


def _specificity(glob: str) -> tuple[bool, int, int]:
    single = glob.count("?")
    wild = single + glob.count("*")
    return wild == 0, len(glob) - wild, single


class Globs:
    """A set of globs, ordered once."""

    __slots__ = ("_ordered",)

    def __init__(self, globs: Iterable[str]) -> None:
        ranked = sorted((_specificity(glob), -index, glob) for index, glob in enumerate(globs))
        self._ordered = tuple((glob, re.compile(translate(glob.replace("[", "[[]")))) for *_, glob in ranked)

    def matching(self, name: str) -> tuple[str, ...]:
        """The globs that match `name`, least specific first."""
        return tuple(glob for glob, pattern in self._ordered if pattern.match(name))
