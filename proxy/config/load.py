"""A file, the environment and the command line → one valid `Config`, or every problem at once.

The steps are pure and live elsewhere: `document.parse` (text → located tree), `overrides` (command line
over file), `lower` (tree → plain values, environment filled in), the model (validation), `checks` (the
whole). This shell reads the files and strings the steps together. Each step reports all it can; validation
runs on whatever the syntax left, so that one round of corrections is usually enough.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from pydantic import ValidationError

from proxy.config.checks import Finding, check_config
from proxy.config.diagnosis import diagnose
from proxy.config.document import LARGEST_TEXT, Node, Tree, parse
from proxy.config.lower import Lowered, lower
from proxy.config.model import Config
from proxy.config.overrides import COMMAND_LINE, apply_overrides, upstream_tree
from proxy.config.problems import Path, Place, Problem, format_path, render_problems
from proxy.config.shape import shape_of
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ("Loaded", "Surroundings", "check", "load_file", "load_text", "load_upstream", "render_problems")

_LARGEST_SECRET = 64 << 10


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, what is doubtful about it, and where each value came from.

    `origins` maps the path of each value that was written to ``file:line:column``, ``env NAME (…)`` or
    ``command line``; every other value is a default.
    """

    config: Config
    warnings: tuple[Problem, ...] = ()
    origins: Mapping[Path, str] = field(default_factory=dict)


def load_file(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """The configuration of the YAML file `path` with ``key.path=value`` `overrides`.

    Raises `ConfigError` with every problem; `environ` defaults to the process's own.
    """
    text, problems = _read(FilePath(path))
    if text is None:
        raise ConfigError(tuple(problems))
    return load_text(text, os.fspath(path), overrides, environ)


def load_text(
    text: str, file: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """`load_file` for text that was read already; `file` names it in problems and anchors relative
    secrets."""
    node, problems = parse(text, file)
    if node is None and problems:
        raise ConfigError(tuple(problems))
    return _build(
        node or Tree(Place(file)), problems, overrides, Surroundings(environ, FilePath(file).parent)
    )


def load_upstream(
    url: str, protocol: str = "", overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """The configuration of ``--upstream URL [--protocol NAME]``, without any file."""
    return _build(upstream_tree(url, protocol), [], overrides, Surroundings(environ, FilePath()))


def check(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[Problem]:
    """Every error and warning about the file `path`; empty when there is nothing to say."""
    try:
        return list(load_file(path, overrides, environ).warnings)
    except ConfigError as error:
        return [problem for problem in error.problems if isinstance(problem, Problem)]


class Surroundings:
    """The environment and the folder that a configuration refers to."""

    def __init__(self, environ: Mapping[str, str] | None, folder: FilePath) -> None:
        self.environ = os.environ if environ is None else environ
        self._folder = folder

    def read_secret(self, file: str) -> str:
        """The text of a secret's file without its final line break; raises OSError or ValueError."""
        with (self._folder / file).open("rb") as stream:
            data = stream.read(_LARGEST_SECRET + 1)
        if len(data) > _LARGEST_SECRET:
            raise ValueError(f"larger than {_LARGEST_SECRET >> 10} KiB")
        return data.decode().rstrip("\r\n")


def _read(path: FilePath) -> tuple[str | None, list[Problem]]:
    place = Place(str(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_TEXT * 4 + 1)  # UTF-8 spends at most four bytes on a character
        return data.decode("utf-8-sig"), []
    except OSError as error:
        return None, [Problem(place, "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        return None, [Problem(Place(str(path), line, column), "", "not UTF-8")]


def _build(root: Node, problems: list[Problem], overrides: Sequence[str], around: Surroundings) -> Loaded:
    if not isinstance(root, Tree):
        raise ConfigError((*problems, Problem(root.place, "", "expected a mapping (key: value)")))
    root, found = apply_overrides(root, overrides)
    lowered = lower(root, shape_of(Config), around.environ, around.read_secret)
    problems = [*problems, *found, *lowered.problems]
    try:
        config = Config.model_validate(lowered.value)
    except ValidationError as error:
        raise ConfigError((*problems, *diagnose(error, lowered, Config))) from None
    findings = [_located(finding, lowered) for finding in check_config(config)]
    if problems or any(problem.severity == "error" for problem in findings):
        raise ConfigError((*problems, *findings))
    return Loaded(config, tuple(findings), _origins(lowered))


def _located(finding: Finding, lowered: Lowered) -> Problem:
    place = lowered.place(finding.path, of_key=finding.path not in lowered.texts)
    return Problem(place, format_path(finding.path), finding.message, finding.suggestion, finding.severity)


def _origins(lowered: Lowered) -> dict[Path, str]:
    """The command line has no lines worth naming."""
    return {
        path: COMMAND_LINE if origin.startswith(COMMAND_LINE) else origin
        for path, origin in lowered.origins.items()
    }
