from __future__ import annotations

import re

import pytest

from proxy.config.document import LARGEST_TEXT, Node, Scalar, Sequence, Tree, parse


def tree(text: str) -> Tree:
    node, problems = parse(text, "f")
    assert problems == []
    assert isinstance(node, Tree)
    return node


def plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {name: plain(entry.value) for name, entry in node.entries.items()}


def complaints(text: str) -> list[str]:
    return [str(problem) for problem in parse(text, "f")[1]]


def test_keys_and_values_know_where_they_stand() -> None:
    root = tree("a:\n  - b: 'x y'\n")
    items = root.entries["a"].value
    assert isinstance(items, Sequence)
    entry = items.items[0].entries["b"]  # type: ignore[union-attr]  # a mapping, as the text shows
    assert str(root.entries["a"].place) == "f:1:1"
    assert str(entry.place) == "f:2:5"
    assert str(entry.value.place) == "f:2:8"
    assert entry.value.place.excerpt == "  - b: 'x y'"
    assert entry.value.place.width == 5


def test_a_scalar_knows_whether_it_was_quoted() -> None:
    entries = tree("a: off\nb: 'off'\nc: \"off\"\nd: |\n  off\ne:\n").entries
    quoted = {
        name: not entry.value.is_plain for name, entry in entries.items() if isinstance(entry.value, Scalar)
    }
    assert quoted == {"a": False, "b": True, "c": True, "d": True, "e": False}


def test_a_value_over_several_lines_is_marked_by_its_first_character() -> None:
    assert tree("a: 'x\n  y'").entries["a"].value.place.width == 1


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_text_is_no_problem_here(text: str) -> None:
    assert parse(text, "f") == (None, [])


def test_anchors_and_merges() -> None:
    text = """
x: &x {a: 1, b: 2}
y: &y {b: 3, c: 4}
one: {b: 0, <<: *x}
both: {<<: [*x, *y]}
same: *x
key: {? *name : 1}
"""
    with_anchor = text.replace("key:", "name: &name n\nkey:")
    assert plain(tree(with_anchor)) == {
        "x": {"a": "1", "b": "2"},
        "y": {"b": "3", "c": "4"},
        "one": {"a": "1", "b": "0"},
        "both": {"a": "1", "b": "2", "c": "4"},
        "same": {"a": "1", "b": "2"},
        "name": "n",
        "key": {"n": "1"},
    }


def test_a_quoted_merge_key_is_a_key() -> None:
    assert plain(tree('"<<": {a: 1}')) == {"<<": {"a": "1"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1\nb: 2\na: 3\na: 4",
            ["f:3:1: a: duplicate key (first on line 1)", "f:4:1: a: duplicate key (first on line 1)"],
        ),
        (
            "a: {b: !!str 1}\nc: !x []",
            [
                "f:1:8: a.b: tags are not used here: quote the value if it must be text",
                "f:2:4: c: tags are not used here: quote the value if it must be text",
            ],
        ),
        ("a: 1\n---\nb: 2", ["f:2:1: a second document: one file holds one configuration"]),
        ("a:\n  <<: 1", ["f:2:7: a.<<: only a mapping, or a list of mappings, can be merged"]),
        ("x: &x {}\na: {<<: [*x, 1]}", ["f:2:9: a.<<: only a mapping, or a list of mappings, can be merged"]),
        ("? [a]\n: 1", ["f:1:3: a key must be text"]),
        ("x: &x {}\na: {*x : 1}", ["f:2:5: a: a key must be text"]),
        ("a: *nobody", ["f:1:4: a: no anchor &nobody is complete before this"]),
        ("a: &a [*a]", ["f:1:8: a[0]: no anchor &a is complete before this"]),
        ("a: &a {<<: *a}", ["f:1:12: a.<<: no anchor &a is complete before this"]),
        ("a: [1", ["f:2:1: not YAML: did not find expected ',' or ']'"]),
        (
            "a: {b: ${env:C}}",
            ["f:1:9: not YAML: did not find expected ',' or '}' (did you mean quotes around \"${…}\"?)"],
        ),
        ("a: 1\n\tb: 2", ["f:2:1: not YAML: found a tab character that violates indentation"]),
        ("a: \x01", ["f: not YAML: control characters are not allowed"]),
    ],
)
def test_problems(text: str, expected: list[str]) -> None:
    assert complaints(text) == expected


def test_what_came_before_a_syntax_error_is_reported_too() -> None:
    assert len(complaints("a: 1\na: 2\nb: [")) == 2


def test_an_alias_bomb_is_refused_before_it_explodes() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert complaints("\n".join(lines)) == ["f:6:10: more than 20000 values, counting aliases in full"]


def test_a_long_list_is_refused() -> None:
    assert complaints("\n".join(["- a"] * 20_001)) == [
        "f:20000:3: more than 20000 values, counting aliases in full"
    ]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_nesting_is_bounded(opening: str, closing: str) -> None:
    assert complaints(opening * 32 + "1" + closing * 32) == []
    assert "nested more than 32 deep" in complaints(opening * 33 + "1" + closing * 33)[0]
    # libyaml reads ahead, and since 0.2.6 has a bound of its own, which such a text meets first
    assert re.search(
        "nested more than 32 deep|exceeded maximum nesting depth", complaints(opening * 100_000)[0]
    )


def test_size_is_bounded() -> None:
    assert complaints("#" * (LARGEST_TEXT + 1)) == ["f: larger than 1 MiB"]


def test_a_very_long_line_is_not_repeated() -> None:
    value = tree("a: " + "b" * 300).entries["a"].value
    assert value.place.excerpt == ""


def test_lines_are_counted_as_yaml_counts_them() -> None:
    value = tree("a: 1\r\nb: 2\rc: 3\n").entries["c"].value
    assert (value.place.line, value.place.excerpt) == (3, "c: 3")
