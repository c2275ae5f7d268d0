"""What may be written at a place of the YAML, read off the model's own type annotations.

One description serves everything that needs to know more than "valid or not": reading a scalar as the type
that is wanted there (so that ``off`` is a word where a word is due), telling apart keys that the format
fixes from names that the operator chooses, suggesting a key, printing the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from proxy.config.fields import Policy, Secret, Written

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

__all__ = ("Shape", "fields_of", "find_key", "shape_of", "spelt_defaults", "structs_of")


@dataclass(frozen=True, slots=True)
class Shape:
    """The kinds of value that fit a place; several in a union."""

    struct: type[Policy] | None = None
    """A mapping with fixed keys."""
    entries: Shape | None = None
    """A mapping whose keys the operator chooses, and what fits each value."""
    items: Shape | None = None
    """A list, and what fits each item."""
    words: tuple[str | int, ...] = ()
    """The fixed words."""
    scalars: frozenset[type] = field(default_factory=frozenset)
    """Plain types: str, int, float, bool."""
    kind: str = ""
    """For text that means something else (`Written.kind`): ``duration``, ``size``, …"""
    is_secret: bool = False
    is_optional: bool = False

    @property
    def is_mapping(self) -> bool:
        """True where only a mapping fits."""
        return self.struct is not None or self.entries is not None


def fields_of(struct: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, Shape]]:
    """Name in the YAML, pydantic's description and shape of each field of `struct`."""
    for name, info in struct.model_fields.items():
        yield info.alias or name, info, shape_of(_annotation(info))


def shape_of(annotation: Any) -> Shape:  # noqa: ANN401  a type annotation has no narrower type
    """The shape of the values that `annotation` admits."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(arguments)
    if origin in {Union, UnionType}:
        return _union(arguments)
    if origin is Literal:
        return Shape(words=arguments)
    if origin is not None and issubclass(origin, Mapping):
        return Shape(entries=shape_of(arguments[1]))
    if origin is not None and issubclass(origin, tuple):
        return Shape(items=shape_of(arguments[0]))
    return _plain(annotation)


def find_key(struct: type[BaseModel], wanted: str, below: str = "") -> str:
    """The path of the first key named `wanted` anywhere in `struct` ("" when there is none)."""
    for name, _, shape in fields_of(struct):
        path = f"{below}{name}"
        if name == wanted:
            return path
        inner, step = _descend(shape)
        found = find_key(inner, wanted, f"{path}{step}.") if inner is not None else ""
        if found:
            return found
    return ""


def structs_of(struct: type[Policy]) -> dict[str, type[Policy]]:
    """`struct` and every struct below it, by class name."""
    found = {struct.__name__: struct}
    for _, _, shape in fields_of(struct):
        inner, _ = _descend(shape)
        found |= {} if inner is None else structs_of(inner)
    return found


def spelt_defaults(struct: type[Policy]) -> dict[str, object]:
    """The defaults of `struct` as they would be written in the YAML; required fields are absent."""
    return struct.model_construct().model_dump(mode="json", by_alias=True)


def _descend(shape: Shape) -> tuple[type[Policy] | None, str]:
    if shape.entries is not None:
        return shape.entries.struct, ".<name>"
    if shape.items is not None:
        return shape.items.struct, "[]"
    return shape.struct, ""


def _annotation(info: FieldInfo) -> Any:  # noqa: ANN401  a type annotation has no narrower type
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def _annotated(arguments: tuple[Any, ...]) -> Shape:
    marks = [mark for mark in arguments[1:] if isinstance(mark, Written)]
    if not marks:
        return shape_of(arguments[0])
    return Shape(scalars=frozenset({str}), kind=marks[0].kind, is_secret=arguments[0] is Secret)


def _union(arguments: tuple[Any, ...]) -> Shape:
    merged = Shape(is_optional=NoneType in arguments)
    for one in (shape_of(argument) for argument in arguments if argument is not NoneType):
        merged = replace(
            merged,
            struct=merged.struct or one.struct,
            entries=merged.entries or one.entries,
            items=merged.items or one.items,
            words=merged.words + one.words,
            scalars=merged.scalars | one.scalars,
            kind=merged.kind or one.kind,
            is_secret=merged.is_secret or one.is_secret,
        )
    return merged


def _plain(annotation: Any) -> Shape:  # noqa: ANN401  a type annotation has no narrower type
    if isinstance(annotation, type) and issubclass(annotation, Policy):
        return Shape(struct=annotation)
    return Shape(scalars=frozenset({annotation}))
