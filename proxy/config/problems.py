"""A problem in a configuration, and the three ways to print it.

Every problem names a place: file, line, column (both from 1) and the path of the value. All problems of a
file are reported at once, because a file that is corrected in five rounds is corrected five times as
slowly.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Format", "Path", "Place", "Problem", "format_path", "render_problems")

Format = Literal["human", "json", "github"]
Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""

_BARE_KEY = re.compile(r"[^\s.\[\]\"'=]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A character of a source: line and column count from 1; line 0 is the source as a whole."""

    file: str
    line: int = 0
    column: int = 0
    excerpt: str = ""
    """The whole line, for the human format."""
    width: int = 1
    """Characters to underline."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (``error``) or doubtful (``warning``), and where."""

    place: Place
    path: str
    message: str
    suggestion: str = ""
    severity: Literal["error", "warning"] = "error"

    @property
    def file(self) -> str:
        """The source's name."""
        return self.place.file

    @property
    def line(self) -> int:
        """Line from 1; 0 for the source as a whole."""
        return self.place.line

    @property
    def column(self) -> int:
        """Column from 1; 0 for the source as a whole."""
        return self.place.column

    def __str__(self) -> str:
        path = f" {self.path}:" if self.path else ""
        doubt = " warning:" if self.severity == "warning" else ""
        return f"{self.place}:{doubt}{path} {self.text}"

    @property
    def text(self) -> str:
        """The message with its suggestion."""
        return f"{self.message} (did you mean {self.suggestion}?)" if self.suggestion else self.message


def format_path(path: Path) -> str:
    """``models."resnet.v2".batch``, ``upstreams.model.http[0]``: what `--set` reads and messages show."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (
                part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            )
    return text


def render_problems(problems: Iterable[Problem], form: Format = "human") -> str:
    """The problems as text: for people with line and caret, as a JSON array, or as GitHub annotations."""
    ordered = sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column))
    if form == "json":
        return json.dumps([_as_json(problem) for problem in ordered], indent=2, ensure_ascii=False)
    return "\n".join(map(_as_github if form == "github" else _as_human, ordered))


def _as_human(problem: Problem) -> str:
    place = problem.place
    if not place.excerpt:
        return str(problem)
    gutter = f"{place.line:>5} | "
    # a tab stays a tab in the caret line: both lines then bend the same way in every terminal
    indent = re.sub(r"[^\t]", " ", place.excerpt[: place.column - 1])
    caret = "^" + "~" * (place.width - 1)
    return f"{problem}\n{gutter}{place.excerpt}\n{'|':>7} {indent}{caret}"


def _as_json(problem: Problem) -> dict[str, object]:
    place = {"file": problem.file, "line": problem.line, "column": problem.column}
    return place | {key: value for key, value in asdict(problem).items() if key != "place"}


def _as_github(problem: Problem) -> str:
    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def property_value(text: str) -> str:
        return escape(text).replace(":", "%3A").replace(",", "%2C")

    title = property_value(problem.path or "configuration")
    place = f"file={property_value(problem.file)},line={problem.line or 1},col={problem.column or 1}"
    return f"::{problem.severity} {place},title={title}::{escape(problem.text)}"
