from __future__ import annotations

from typing import Literal

import pytest

from proxy.config.document import parse
from proxy.config.fields import Duration, Policy, Secret, SecretText, Share, Size
from proxy.config.lower import Lowered, lower, spell
from proxy.config.shape import Shape, shape_of


class Part(Policy):
    """Part."""

    text: str = ""
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    mode: Literal["auto", "off"] = "auto"
    either: Literal["auto"] | int = "auto"
    span: Duration = 0.0
    size: Size = 0
    share: Share = 0.0
    token: SecretText = Secret("")
    maybe: Duration | None = None
    many: tuple[str, ...] = ()


class Whole(Policy):
    """Whole."""

    part: Part = Part()
    maybe: Part | None = None
    named: dict[str, Part] = {}  # noqa: RUF012  pydantic copies it


ENVIRON = {"N": "12", "T": "text", "OFF": "off", "EMPTY": "", "SPAN": "5s", "TRUE": "true", "FILE": "f"}


def read_secret(file: str) -> str:
    if file == "gone":
        raise FileNotFoundError(2, "No such file or directory")
    if file == "big":
        raise ValueError("larger than 64 KiB")
    return f"content of {file}"


def lowered(text: str) -> Lowered:
    node, problems = parse(text, "f")
    assert node is not None
    assert problems == []
    return lower(node, shape_of(Whole), ENVIRON, read_secret)


def value(line: str) -> object:
    """What the single line of the part becomes."""
    done = lowered(f"part: {{{line}}}")
    assert done.problems == []
    return next(iter(done.value["part"].values()))  # type: ignore[index]  # a mapping, as the text shows


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("count: 3", 3),
        ("ratio: 2.5", 2.5),
        ("flag: true", True),
        ("text: hello", "hello"),
        ("text: '010'", "010"),
        ("mode: off", "off"),
        ("span: 30", 30),
        ("many: [a, b]", ("a", "b")),
        ("maybe: ", None),
        ("maybe: ~", None),
        ("unknown: off", "off"),
        ("unknown: {off: [010]}", {"off": ("010",)}),
        ('count: "${env:N}"', 12),
        ('text: "${env:N}"', "12"),
        ('text: "${env:TRUE}"', "true"),
        ('flag: "${env:TRUE}"', True),
        ('mode: "${env:OFF}"', "off"),
        ('either: "${env:N}"', 12),
        ('either: "${env:T}"', "text"),
        ('count: "${env:OFF}"', "off"),
        ('span: "${env:SPAN}"', "5s"),
        ('maybe: "${env:EMPTY}"', None),
        ('maybe: "${env:SPAN}"', "5s"),
        ('text: "${env:EMPTY}"', ""),
        ('many: ["${env:T}"]', ("text",)),
        ('token: "${env:T}"', "text"),
        ("token: {file: a}", Secret("content of a", "a")),
        ('token: {file: "${env:FILE}"}', Secret("content of f", "f")),
        ("token: {file: a, more: b}", {"file": "a", "more": "b"}),
    ],
)
def test_a_value_is_read_as_what_is_wanted(line: str, expected: object) -> None:
    assert value(line) == expected
    assert type(value(line)) is type(expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("text: no", 'text: to some YAML readers a bare no is false (did you mean "no"?)'),
        ("flag: no", "flag: to some YAML readers a bare no is false (did you mean false?)"),
        ("flag: on", "flag: to some YAML readers a bare on is true (did you mean true?)"),
        ("mode: on", 'mode: to some YAML readers a bare on is true (did you mean "on"?)'),
        ("count: 010", "count: to some YAML readers 010 is octal (did you mean 10?)"),
        ("text: 010", 'text: to some YAML readers 010 is octal (did you mean "010"?)'),
        ("count: 1_000", "count: only some YAML readers take 1_000 for a number (did you mean 1000?)"),
        ("span: 1:30", "span: to some YAML readers 1:30 is a number in base 60 (did you mean 90s?)"),
        ("size: 010", "size: to some YAML readers 010 is octal (did you mean 10B?)"),
        ("share: 010", "share: to some YAML readers 010 is octal (did you mean 10%?)"),
        ("share: no", "share: to some YAML readers a bare no is false"),
        ('count: "${env:NOPE}"', "count: the environment variable NOPE is not set"),
        ('text: "${T}"', "text: unknown placeholder ${T} (did you mean ${env:T}?)"),
        ("token: {file: gone}", "token: the secret cannot be read: No such file or directory"),
        ("token: {file: big}", "token: the secret cannot be read: larger than 64 KiB"),
    ],
)
def test_traps_and_gaps(line: str, message: str) -> None:
    done = lowered(f"part: {{{line}}}")
    assert [f"{problem.path.removeprefix('part.')}: {problem.text}" for problem in done.problems] == [message]
    assert done.settled == {("part", line.partition(":")[0])}


def test_keys_for_notes_are_dropped_where_keys_are_fixed() -> None:
    done = lowered("x-note: {text: no}\npart: {x-more: 010, count: 1}\nnamed: {x-ray: {x-too: 1, count: 2}}")
    assert done.problems == []
    assert done.value == {"part": {"count": 1}, "named": {"x-ray": {"count": 2}}}


def test_a_mapping_may_be_left_empty() -> None:
    assert lowered("part:\nmaybe:\nnamed:\n").value == {"part": {}, "maybe": None, "named": {}}


def test_a_secret_file_must_be_text() -> None:
    done = lowered("part: {token: {file: [a]}}")
    assert done.value == {"part": {"token": Secret("content of ", "")}}


def test_origins() -> None:
    done = lowered('part: {count: 1, text: "${env:T}${env:N}", span: "${env:X:-1s}", token: {file: a}}')
    assert done.origins == {
        ("part", "count"): "f:1:15",
        ("part", "text"): "env T, N (f:1:24)",
        ("part", "span"): "f:1:50",
        ("part", "token"): "f:1:80",
    }


def test_a_place_is_the_nearest_one_that_was_written() -> None:
    done = lowered("part: {count: 1}")
    assert str(done.place(("part", "count"))) == "f:1:15"
    assert str(done.place(("part", "count"), of_key=True)) == "f:1:8"
    assert str(done.place(("part", "text"))) == "f:1:1"
    assert str(done.place(("part", "many", 0))) == "f:1:1"
    assert str(done.place(("named",))) == "f:1:1"


@pytest.mark.parametrize(
    ("value", "kind", "spelt"),
    [
        (30, "duration", "30s"),
        ("x", "duration", ""),
        (30, "size", "30B"),
        ("x", "size", ""),
        (0.2, "share", "20%"),
        (20, "share", "20%"),
        ("x", "share", ""),
        (True, "", "true"),
        ("x", "", '"x"'),
        (5, "", "5"),
    ],
)
def test_spelling(value: object, kind: str, spelt: str) -> None:
    assert spell(value, Shape(kind=kind)) == spelt
