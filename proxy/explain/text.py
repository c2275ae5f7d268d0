"""An explanation for people: one block for each step of a request's way, and at the end what comes of it.

Theory of operation
-------------------
The explanation is a document of sections; whatever a section says is shown as ``name  value`` lines, nested
names joined by dots. Nothing is chosen here: what the JSON says, the text says. Names that end in a unit lose
it, and their values gain it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.fields import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("as_text",)


def as_text(explanation: Mapping[str, object]) -> str:
    """`explanation` (JSON values) as lines of text; its ``outcome`` comes last."""
    lines = []
    for section, content in explanation.items():
        if section == "outcome":
            continue
        pairs = list(_flat(content))
        width = max((len(name) for name, _ in pairs), default=0)
        lines.append(section)
        lines += [f"  {name:{width}}  {value}".rstrip() for name, value in pairs]
    return "\n".join([*lines, f"=> {explanation['outcome']}", ""])


def _flat(content: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    elif isinstance(content, list) and any(isinstance(value, dict) for value in content):
        for index, value in enumerate(content):
            yield from _flat(value, f"{name}.{index}" if name else str(index))
    else:
        yield _shown(name, content)


def _shown(name: str, value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        return name, "yes" if value else "no"
    if value is None:
        return name, "-"
    if isinstance(value, list):
        return name, ", ".join(map(str, value)) or "-"
    if isinstance(value, int | float):
        if name.endswith("_s"):
            return name.removesuffix("_s"), format_duration(value)
        if name.endswith("bytes"):
            return name, format_size(int(value))
    return name, str(value)
