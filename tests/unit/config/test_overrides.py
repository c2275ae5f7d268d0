from __future__ import annotations

import pytest

from proxy.config.document import Node, Scalar, Sequence, Tree, parse
from proxy.config.overrides import apply_overrides, upstream_tree


def plain(node: Node) -> object:
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {name: plain(entry.value) for name, entry in node.entries.items()}


def overlaid(text: str, *overrides: str) -> Tree:
    node, _ = parse(text, "f")
    assert isinstance(node, Tree)
    root, problems = apply_overrides(node, overrides)
    assert problems == []
    return root


def tree(node: Node) -> Tree:
    assert isinstance(node, Tree)
    return node


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["a.b=2"], {"a": {"b": "2", "c": "1"}}),
        (["a.d.e=x"], {"a": {"b": "1", "c": "1", "d": {"e": "x"}}}),
        (["a=x"], {"a": "x"}),
        (["a.b.c=x"], {"a": {"b": {"c": "x"}, "c": "1"}}),
        (["a={d: [1, 2]}"], {"a": {"d": ["1", "2"]}}),
        (["a.b=x", "a.b=y"], {"a": {"b": "y", "c": "1"}}),
        (["a.b="], {"a": {"b": "", "c": "1"}}),
        (["a.b=x=y"], {"a": {"b": "x=y", "c": "1"}}),
        (['a."x.y[0]".*=1'], {"a": {"b": "1", "c": "1", "x.y[0]": {"*": "1"}}}),
        (['a."\\u0041"=1'], {"a": {"b": "1", "c": "1", "A": "1"}}),
    ],
)
def test_overrides_are_laid_over(overrides: list[str], expected: object) -> None:
    assert plain(overlaid("a: {b: 1, c: 1}", *overrides)) == expected


def test_what_aliases_share_is_not_changed() -> None:
    root = overlaid("one: &x {in: {a: 1}}\ntwo: *x", "one.in.a=2")
    assert plain(root) == {"one": {"in": {"a": "2"}}, "two": {"in": {"a": "1"}}}


def test_keys_and_values_stand_in_the_argument() -> None:
    place = overlaid("{}", "ab.cd={e: [f]}").entries["ab"].place
    assert (str(place), place.excerpt, place.width) == ("command line:1:1", "ab.cd={e: [f]}", 2)
    inner = tree(tree(overlaid("{}", "ab.cd={e: [f]}").entries["ab"].value).entries["cd"].value).entries["e"]
    assert str(inner.place) == "command line:1:8"
    assert isinstance(inner.value, Sequence)
    assert [str(item.place) for item in inner.value.items] == ["command line:1:12"]


def test_a_section_keeps_its_place_when_only_a_part_is_replaced() -> None:
    root = overlaid("a: {b: 1}", "a.b=2")
    assert str(root.entries["a"].place) == "f:1:1"


@pytest.mark.parametrize("argument", ["", "a", "a.b", "=1", ".a=1", "a..b=1", "a[0]=1", '"a=1', '"\\x".b=1'])
def test_malformed_arguments(argument: str) -> None:
    root, problems = apply_overrides(overlaid("{}"), [argument, "b=1"])
    assert [str(problem) for problem in problems] == ["command line:1:1: --set expects key.path=value"]
    assert plain(root) == {"b": "1"}


def test_a_value_that_is_not_yaml() -> None:
    _, problems = apply_overrides(overlaid("{}"), ["abc={d: 1, d: 2}", "e=[1\n  2"])
    assert [str(problem) for problem in problems] == [
        "command line:1:12: d: duplicate key (first on line 1)",
        "command line:3:1: not YAML: did not find expected ',' or ']'",
    ]


def test_an_upstream_from_the_command_line() -> None:
    assert plain(upstream_tree("http://a:1", "kserve-v1")) == {
        "version": "1",
        "upstreams": {"model": {"http": ["http://a:1"], "protocol": "kserve-v1"}},
    }
    assert plain(upstream_tree("http://a:1", "")) == {
        "version": "1",
        "upstreams": {"model": {"http": ["http://a:1"]}},
    }
