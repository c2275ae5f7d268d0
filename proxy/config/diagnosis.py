"""What the validator reports → problems in the operator's words, each at its line, with what was probably
meant.

The validator names a field by its location, in which a union adds the name of the alternative it tried; the
location is followed through the places that were written, and what is none of them is dropped. Several
complaints about one value (one for each alternative) become one.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from proxy.config.lower import Lowered, spell
from proxy.config.problems import Path, Problem, format_path
from proxy.config.scalars import Trap, resolve
from proxy.config.shape import Shape, fields_of, find_key, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from proxy.config.fields import Policy

__all__ = ("closest", "diagnose", "shape_at")

_PLAIN_WORDS = {
    "missing": "this key is required",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "string_pattern_mismatch": "must match {pattern}",
}
_WORDS_FOR_TYPES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` most probably misspells; "" when none is near."""
    by_folded = {each.casefold().replace("-", "_"): each for each in known}
    near = get_close_matches(word.casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else ""


def diagnose(error: ValidationError, lowered: Lowered, model: type[Policy]) -> list[Problem]:
    """One problem for each value that `error` complains about, in file order."""
    problems: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False):
        path = _path(detail, lowered)
        # a list counts only its valid items: where an item has a problem, "too short" says nothing more
        is_echo = detail["type"] == "too_short" and (*path, 0) in lowered.values
        # a value that fits none of several types came nearest to the one whose bounds it missed
        is_new = path not in problems or detail["type"] in _PLAIN_WORDS
        if is_new and path not in lowered.settled and not is_echo:
            problems[path] = _problem(detail, path, lowered, model)
    return list(problems.values())


def shape_at(model: type[Policy], path: Path) -> Shape:
    """What fits at `path` (an empty shape where the model knows nothing)."""
    shape = shape_of(model)
    for part in path:
        if isinstance(part, int):
            inner = shape.items
        elif shape.entries is not None:
            inner = shape.entries
        else:
            inner = _fields(shape).get(part)
        shape = inner or Shape()
    return shape


def _fields(shape: Shape) -> Mapping[str, Shape]:
    return {} if shape.struct is None else {name: inner for name, _, inner in fields_of(shape.struct)}


def _path(detail: ErrorDetails, lowered: Lowered) -> Path:
    path: Path = ()
    for part in detail["loc"]:
        if (*path, part) in lowered.values:
            path = (*path, part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else path


def _problem(detail: ErrorDetails, path: Path, lowered: Lowered, model: type[Policy]) -> Problem:
    is_about_key = detail["type"] in {"extra_forbidden", "missing"} or detail["loc"][-1] == "[key]"
    message, suggestion = _words(detail, path, lowered, model)
    return Problem(lowered.place(path, of_key=is_about_key), format_path(path), message, suggestion)


def _words(detail: ErrorDetails, path: Path, lowered: Lowered, model: type[Policy]) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    shape = shape_at(model, path)
    if kind == "extra_forbidden":
        return _unknown_key(path, model)
    if kind == "value_error":
        return str(context["error"]), _repair(path, lowered, shape)
    plain = _PLAIN_WORDS.get(kind)
    if plain is not None:
        return plain.format(**context), ""
    return _wrong_type(path, lowered, shape, detail["input"])


def _unknown_key(path: Path, model: type[Policy]) -> tuple[str, str]:
    key = str(path[-1])
    near = closest(key, _fields(shape_at(model, path[:-1])))
    return "unknown key", near or find_key(model, key)


def _wrong_type(path: Path, lowered: Lowered, shape: Shape, value: object) -> tuple[str, str]:
    wanted = _wanted(shape)
    if value is None:
        return f"no value: expected {wanted}", ""
    if isinstance(value, str) and shape.words:
        near = closest(value, [str(word) for word in shape.words])
        if near:
            return f"expected {wanted}", near
    return f"expected {wanted}", _repair(path, lowered, shape)


def _repair(path: Path, lowered: Lowered, shape: Shape) -> str:
    """What the scalar at `path` would have to look like, judging by what was written."""
    text = lowered.texts.get(path)
    if text is None or shape.is_secret:
        return ""
    if shape.items is not None:
        return f'["{text}"]'
    value = resolve(text)
    if shape.kind in {"duration", "size", "share"}:
        return _with_unit(text, value, shape)
    if shape.scalars == {str} and not shape.kind and not isinstance(value, str | Trap):
        return f'"{text}"'
    if type(value) in shape.scalars and type(value) is not str:
        return text  # it was quoted
    return ""


_UNIT_WORDS = {
    "duration": {
        "ms": "ms msec msecs millisecond milliseconds",
        "us": "us usec microsecond microseconds",
        "s": "s sec secs second seconds",
        "m": "m min mins minute minutes",
        "h": "h hr hrs hour hours",
        "d": "d day days",
    },
    "size": {
        "B": "b byte bytes",
        "KiB": "k kb ki kib",
        "MiB": "m mb mi mib",
        "GiB": "g gb gi gib",
        "TiB": "t tb ti tib",
    },
    "share": {"%": "% percent pct"},
}


def _with_unit(text: str, value: object, shape: Shape) -> str:
    if isinstance(value, int | float):
        return spell(value, shape)
    number = text.rstrip("".join(c for c in text if not c.isdigit() and c != "."))
    unit = text[len(number) :].strip().casefold()
    for spelt, words in _UNIT_WORDS[shape.kind].items():
        if number.replace(".", "", 1).isdigit() and unit in words.split():
            repaired = f"{number}{spelt}"
            return repaired if repaired != text else ""
    return ""


def _wanted(shape: Shape) -> str:
    if shape.is_mapping:
        return "a mapping (key: value)"
    if shape.items is not None:
        return "a list"
    if shape.kind:
        return f"a {shape.kind}"
    options: list[str] = [str(word) for word in shape.words]
    options += [name for scalar, name in _WORDS_FOR_TYPES.items() if scalar in shape.scalars]
    return " or ".join(filter(None, (", ".join(options[:-1]), *options[-1:])))
