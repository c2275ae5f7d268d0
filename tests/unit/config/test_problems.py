from __future__ import annotations

import json

import pytest

from proxy.config.problems import Path, Place, Problem, format_path, render_problems

LATE = Problem(Place("b.yaml", 7, 5, "    pol: {}", 3), "upstreams.m.pol", "unknown key", "pool")
EARLY = Problem(Place("b.yaml", 2, 3, "\t x: 5"), "", "odd, isn't it: 100%\nreally", severity="warning")
WHOLE = Problem(Place("a.yaml"), "", "cannot be read")


def test_one_line() -> None:
    assert str(LATE) == "b.yaml:7:5: upstreams.m.pol: unknown key (did you mean pool?)"
    assert str(EARLY) == "b.yaml:2:3: warning: odd, isn't it: 100%\nreally"
    assert str(WHOLE) == "a.yaml: cannot be read"
    assert (LATE.file, LATE.line, LATE.column) == ("b.yaml", 7, 5)


def test_for_people() -> None:
    problem = Problem(Place("b.yaml", 2, 3, "\t x: 5"), "x", "bad")
    assert render_problems([LATE, problem, WHOLE]) == (
        "a.yaml: cannot be read\n"
        "b.yaml:2:3: x: bad\n"
        "    2 | \t x: 5\n"
        "      | \t ^\n"
        "b.yaml:7:5: upstreams.m.pol: unknown key (did you mean pool?)\n"
        "    7 |     pol: {}\n"
        "      |     ^~~"
    )


def test_for_programs() -> None:
    assert json.loads(render_problems([LATE], "json")) == [
        {
            "file": "b.yaml",
            "line": 7,
            "column": 5,
            "path": "upstreams.m.pol",
            "message": "unknown key",
            "suggestion": "pool",
            "severity": "error",
        }
    ]
    assert render_problems([], "json") == "[]"


def test_for_a_forge() -> None:
    assert render_problems([LATE, EARLY, WHOLE], "github").splitlines() == [
        "::error file=a.yaml,line=1,col=1,title=configuration::cannot be read",
        "::warning file=b.yaml,line=2,col=3,title=configuration::odd, isn't it: 100%25%0Areally",
        "::error file=b.yaml,line=7,col=5,title=upstreams.m.pol::unknown key (did you mean pool?)",
    ]


def test_a_forge_property_cannot_be_left() -> None:
    problem = Problem(Place("a,b:c.yaml", 1, 1), 'models."x:y,z"', "bad")
    assert render_problems([problem], "github") == (
        '::error file=a%2Cb%3Ac.yaml,line=1,col=1,title=models."x%3Ay%2Cz"::bad'
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("a", "b"), "a.b"),
        (("a", 0, "b", 1), "a[0].b[1]"),
        (("models", "*", "batch"), "models.*.batch"),
        (("models", "res.net", "batch"), 'models."res.net".batch'),
        (("a b",), '"a b"'),
        (('a"b',), '"a\\"b"'),
        (("",), '""'),
    ],
)
def test_paths(path: Path, text: str) -> None:
    assert format_path(path) == text
