from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.fields import Duration, Policy, SecretText
from proxy.config.shape import Shape, fields_of, find_key, shape_of, spelt_defaults, structs_of


class Inner(Policy):
    """Inner."""

    depth: int = 1
    span: Duration = 0.5


class Outer(Policy):
    """Outer."""

    inner: Inner = Inner()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    listed: tuple[Inner, ...] = ()
    renamed: str = Field(default="", alias="as")
    must: int


def test_shapes() -> None:
    assert shape_of(int) == Shape(scalars=frozenset({int}))
    assert shape_of(Annotated[int, Field(ge=1)]) == Shape(scalars=frozenset({int}))
    assert shape_of(Duration) == Shape(scalars=frozenset({str}), kind="duration")
    assert shape_of(SecretText) == Shape(scalars=frozenset({str}), kind="secret", is_secret=True)
    assert shape_of(Literal["a", "b"]) == Shape(words=("a", "b"))
    assert shape_of(Literal["auto"] | int) == Shape(words=("auto",), scalars=frozenset({int}))
    assert shape_of(Duration | None) == Shape(scalars=frozenset({str}), kind="duration", is_optional=True)
    assert shape_of(Inner) == Shape(struct=Inner)
    assert shape_of(Inner | None) == Shape(struct=Inner, is_optional=True)
    assert shape_of(dict[str, Inner]) == Shape(entries=Shape(struct=Inner))
    assert shape_of(tuple[int, ...]) == Shape(items=Shape(scalars=frozenset({int})))


def test_fields_keep_their_marks_and_their_names_in_the_yaml() -> None:
    shapes = {name: shape for name, _, shape in fields_of(Outer)}
    assert list(shapes) == ["inner", "by_name", "listed", "as", "must"]
    assert {name: shape.kind for name, _, shape in fields_of(Inner)} == {"depth": "", "span": "duration"}


def test_a_key_is_found_wherever_it_is() -> None:
    assert find_key(Outer, "as") == "as"
    assert find_key(Outer, "span") == "inner.span"
    assert find_key(Outer, "nowhere") == ""


def test_a_key_is_found_behind_names_and_items() -> None:
    class ByName(Policy):
        by_name: dict[str, Inner]

    class Listed(Policy):
        listed: tuple[Inner, ...]

    assert find_key(ByName, "span") == "by_name.<name>.span"
    assert find_key(Listed, "span") == "listed[].span"


def test_defaults_are_spelt_as_an_operator_would() -> None:
    assert spelt_defaults(Outer) == {
        "inner": {"depth": 1, "span": "500ms"},
        "by_name": {},
        "listed": [],
        "as": "",
    }


def test_structs() -> None:
    assert structs_of(Outer) == {"Outer": Outer, "Inner": Inner}
