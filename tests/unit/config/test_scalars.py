from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.scalars import Filled, Trap, escape, fill, resolve


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_nothing(text: str) -> None:
    assert resolve(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("tRue", "tRue"),
        ("1.2.3", "1.2.3"),
        ("50ms", "50ms"),
        ("12:60", "12:60"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("_1", "_1"),
        ("nope", "nope"),
        ("n", "n"),
        ("9" * 400, "9" * 400),
        ("1_" * 200, "1_" * 200),
    ],
)
def test_what_every_reader_agrees_on(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("no", (False, "no")),
        ("Off", (False, "Off")),
        ("YES", (True, "YES")),
        ("on", (True, "on")),
        ("010", (10, "010")),
        ("-007", (-7, "-007")),
        ("1_000", (1000, "1_000")),
        ("1:30", (90, "1:30")),
        ("-1:00:01", (-3601, "-1:00:01")),
    ],
)
def test_what_readers_disagree_about(text: str, readings: tuple[object, ...]) -> None:
    trap = resolve(text)
    assert isinstance(trap, Trap)
    assert trap.text == text
    assert text in trap.why
    assert trap.readings == readings


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", Filled("plain", (), ())),
        ("${env:A}", Filled("1", ("A",), ())),
        ("x${env:A}y${env:B}", Filled("x1y", ("A", "B"), ())),
        ("${env:A:-2}", Filled("1", ("A",), ())),
        ("${env:B:-2}", Filled("", ("B",), ())),
        ("${env:C:-2 3}", Filled("2 3", (), ())),
        ("${env:C:-}", Filled("", (), ())),
        ("$${env:A} ${env:A}", Filled("${env:A} 1", ("A",), ())),
        ("${ open", Filled("${ open", (), ())),
        ("${env:C}", Filled("", (), (("the environment variable C is not set", ""),))),
        ("${env:D}", Filled("", (), (("the environment variable D is not UTF-8", ""),))),
        ("${A}", Filled("${A}", (), (("unknown placeholder ${A}", "${env:A}"),))),
        ("${1 + 1}", Filled("${1 + 1}", (), (("unknown placeholder ${1 + 1}", "$${1 + 1}"),))),
        (
            "${env:not a name}",
            Filled(
                "${env:not a name}", (), (("unknown placeholder ${env:not a name}", "$${env:not a name}"),)
            ),
        ),
    ],
)
def test_filling(text: str, filled: Filled) -> None:
    assert fill(text, {"A": "1", "B": "", "D": "\udc80"}) == filled


def test_what_is_filled_in_is_not_filled_again() -> None:
    assert fill("${env:A}", {"A": "${env:B}"}).text == "${env:B}"


@given(st.text(alphabet="${}env:A-$ "))
def test_escaped_text_comes_back(text: str) -> None:
    assert fill(escape(text), {}) == Filled(text, (), ())
