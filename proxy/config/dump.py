"""The effective configuration as YAML that loads back to the same configuration.

Every default is written out, with one exception: a model glob other than ``*`` shows only what it sets,
because it inherits the rest, and writing inherited values down would stop the inheritance. Secrets are
``***``, or the file they come from. With origins, each value carries a comment that says where it came
from; the routes that the protocols bring are listed in comments at the end, since nobody wrote them either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from proxy.config.presets import routes_of
from proxy.config.scalars import escape, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.load import Loaded
    from proxy.config.problems import Path

__all__ = ("dump",)

_PLAIN = re.compile(r"[A-Za-z0-9_/.%][A-Za-z0-9_/.%+-]*")
_COMMENT_COLUMN = 60


def dump(loaded: Loaded, *, with_origin: bool = False) -> str:
    """`loaded` as YAML text."""
    config = loaded.config
    values: dict[str, object] = config.model_dump(mode="json", exclude_none=True)
    values["models"] = {
        glob: model.model_dump(mode="json", exclude_none=True, exclude_unset=glob != "*")
        for glob, model in config.models.items()
    }
    lines = [
        _annotated(line, _origin(path, loaded)) if with_origin and path else line
        for line, path in _mapping(values, (), "")
    ]
    if with_origin:
        lines += ["", "# routes, in the order in which they are tried:", *_routes(loaded)]
    return "\n".join(lines) + "\n"


def _mapping(values: dict[str, object], path: Path, indent: str) -> Iterator[tuple[str, Path]]:
    """The lines of a mapping, each with the path of the value that it holds (empty for a mere heading)."""
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, dict) and value:
            yield f"{indent}{_text(name)}:", ()
            yield from _mapping(value, here, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield f"{indent}{_text(name)}:", ()
            for index, item in enumerate(value):
                yield f"{indent}  - {_flow(item)}", (*here, index)
        else:
            yield f"{indent}{_text(name)}: {_flow(value)}", here


def _flow(value: object) -> str:
    """`value` on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _text(escape(value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _text(text: str) -> str:
    """`text` without quotes where every YAML reader takes it for text."""
    if _PLAIN.fullmatch(text) and resolve(text) == text:
        return text
    quoted: str = yaml.dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return quoted.removesuffix("\n")


def _annotated(line: str, origin: str) -> str:
    return f"{line:<{_COMMENT_COLUMN}}  # {origin}"


def _origin(path: Path, loaded: Loaded) -> str:
    """Where the value at `path` came from; for a list, where its first item did."""
    below = (origin for each, origin in loaded.origins.items() if each[: len(path)] == path)
    return next(below, "default")


def _routes(loaded: Loaded) -> Iterator[str]:
    for route in routes_of(loaded.config):
        rules = " and ".join(f"{' '.join(rule.methods) or 'any method'} {rule.path}" for rule in route.rules)
        batched = f", batched as {route.codec}" if route.codec else ""
        yield f"#   {rules} -> {route.upstream}: {route.kind}{batched} ({route.name})"
