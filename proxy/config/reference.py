"""The tables of ``docs/configuration.md``, made from the model so that they cannot be out of date.

The prose around them is written by hand; what stands between the markers is replaced.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from proxy.config.model import Config
from proxy.config.presets import PROTOCOLS
from proxy.config.shape import Shape, fields_of, spelt_defaults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from proxy.config.fields import Policy

__all__ = ("with_tables",)

_KEYS: Final = "keys"
_PROTOCOLS: Final = "protocols"
_WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_PLACEHOLDERS: Final = {"upstreams": "<name>", "models": "<glob>"}


def with_tables(text: str) -> str:
    """`text` with the tables between its markers made anew; ValueError when a marker is missing."""
    for name, table in ((_KEYS, _key_tables()), (_PROTOCOLS, _protocol_tables())):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"no {begin.strip()} … {end}")
        text = before + begin + "\n" + "\n".join(table) + "\n\n" + end + after
    return text


def _key_tables() -> Iterator[str]:
    for name, info, shape in fields_of(Config):
        below = list(_rows(name, shape))
        yield f"### `{name}`"
        yield ""
        yield _sentence(info)
        yield ""
        if below:
            yield from ("| key | default | written as | meaning |", "|---|---|---|---|", *below, "")


def _rows(path: str, shape: Shape) -> Iterator[str]:
    struct, path = _inner(path, shape)
    if struct is None:
        return
    defaults = spelt_defaults(struct)
    for name, info, inner in fields_of(struct):
        here = f"{path}.{name}"
        if inner.is_mapping:
            yield from _rows(here, inner)
        else:
            default = "required" if info.is_required() else _default(defaults[name])
            yield f"| `{here}` | {default} | {_written(inner)} | {_sentence(info)} |"
            yield from _rows(here, inner)


def _inner(path: str, shape: Shape) -> tuple[type[Policy] | None, str]:
    if shape.entries is not None:
        return shape.entries.struct, f"{path}.{_PLACEHOLDERS.get(path, '<name>')}"
    if shape.items is not None:
        return shape.items.struct, f"{path}[]"
    return shape.struct, path


def _default(value: object) -> str:
    if value is None:
        return "none"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _written(shape: Shape) -> str:
    if shape.items is not None:
        return f"list of {_written(shape.items)}"
    options = [f"`{word}`" for word in shape.words]
    options += (
        [shape.kind] if shape.kind else [_WORDS[scalar] for scalar in _WORDS if scalar in shape.scalars]
    )
    return " \\| ".join(options)


def _sentence(info: FieldInfo) -> str:
    """The field's docstring, or its struct's, on one line that a table can hold."""
    text = info.description or getattr(info.annotation, "__doc__", None) or ""
    return " ".join(text.split()).replace("|", "\\|")


def _protocol_tables() -> Iterator[str]:
    for name, protocol in PROTOCOLS.items():
        yield f"### `{name}`"
        yield ""
        if protocol.routes:
            yield from ("| request | kind | merged into batches |", "|---|---|---|")
            for preset in (*protocol.routes, *protocol.methods):
                merged = "yes" if preset.codec else "no"
                request = f"{preset.method} {preset.path}" if preset in protocol.routes else preset.path
                yield f"| `{request}` | {preset.kind} | {merged} |"
            yield ""
        else:
            yield from ("Nothing is assumed about any path.", "")
