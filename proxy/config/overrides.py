"""``--set key.path=value`` and ``--upstream URL``: values from the command line, laid over the file's tree.

A path is keys joined by dots; a key that holds a dot or a bracket is quoted:
``models."resnet.v2".batch.mode=off``. The value is YAML, so ``[a, b]`` is a list and ``30s`` needs no
quotes. The last of two overrides of one path wins.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.config.document import Entry, Node, Scalar, Sequence, Tree, parse
from proxy.config.problems import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("COMMAND_LINE", "apply_overrides", "upstream_tree")

COMMAND_LINE = "command line"
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|[^\s.\[\]"'=]+)([.=])""")


def apply_overrides(root: Tree, overrides: Iterable[str]) -> tuple[Tree, list[Problem]]:
    """`root` with each ``key.path=value`` of `overrides` laid over it; `root` itself is not changed."""
    problems: list[Problem] = []
    for argument in overrides:
        keys, value = _split(argument)
        if not keys:
            place = Place(COMMAND_LINE, 1, 1, argument, max(1, len(argument)))
            problems.append(Problem(place, "", "--set expects key.path=value"))
            continue
        node, found = _value(argument, value)
        problems += found
        root = _graft(root, keys, node)
    return root, problems


def upstream_tree(url: str, protocol: str) -> Tree:
    """The configuration that ``serve --upstream URL --protocol NAME`` stands for."""
    place = Place(COMMAND_LINE)
    urls = Sequence(place, [Scalar(url, Place(COMMAND_LINE, 1, 1, url, max(1, len(url))), is_plain=False)])
    upstream = Tree(place, {"http": Entry(place, urls)})
    if protocol:
        upstream.entries["protocol"] = Entry(place, Scalar(protocol, place, is_plain=False))
    upstreams = Tree(place, {"model": Entry(place, upstream)})
    return Tree(place, {"version": Entry(place, Scalar("1", place)), "upstreams": Entry(place, upstreams)})


def _split(argument: str) -> tuple[list[tuple[str, Place]], int]:
    """The keys of `argument` with their places, and where its value begins; no keys when it is malformed."""
    keys: list[tuple[str, Place]] = []
    position = 0
    while match := _KEY.match(argument, position):
        text = match[1]
        place = Place(COMMAND_LINE, 1, position + 1, argument, len(text))
        try:
            keys.append((json.loads(text) if text.startswith('"') else text, place))
        except ValueError:
            return [], 0
        position = match.end()
        if match[2] == "=":
            return keys, position
    return [], 0


def _value(argument: str, start: int) -> tuple[Node, list[Problem]]:
    text = argument[start:]
    node, problems = parse(text, COMMAND_LINE)
    moved = [replace(problem, place=_moved(problem.place, argument, start)) for problem in problems]
    if node is None:
        return Scalar("", Place(COMMAND_LINE, 1, start + 1, argument)), moved
    _move(node, argument, start)
    return node, moved


def _moved(place: Place, argument: str, start: int) -> Place:
    return replace(place, column=place.column + start, excerpt=argument) if place.line == 1 else place


def _move(node: Node, argument: str, start: int) -> None:
    """Count the columns of a value from the start of its argument."""
    node.place = _moved(node.place, argument, start)
    inner = node.items if isinstance(node, Sequence) else []
    if isinstance(node, Tree):
        for entry in node.entries.values():
            entry.place = _moved(entry.place, argument, start)
        inner = [entry.value for entry in node.entries.values()]
    for each in inner:
        _move(each, argument, start)


def _graft(tree: Tree, keys: list[tuple[str, Place]], node: Node) -> Tree:
    """`tree` with `node` at `keys`; what aliases share is copied, not changed."""
    (name, place), *rest = keys
    below = tree.entries.get(name)
    if rest:
        inner = below.value if below is not None and isinstance(below.value, Tree) else Tree(place)
        node = _graft(inner, rest, node)
    return Tree(tree.place, tree.entries | {name: Entry(below.place if below and rest else place, node)})
