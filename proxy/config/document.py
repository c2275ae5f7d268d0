"""YAML text → a tree in which every key and value knows where it stands.

Theory of operation
------------------- The YAML library is asked for its event stream only. Everything between events and
values is decided here, because that is where YAML surprises people:

* a duplicate key is a problem (libraries silently keep the last);
* scalars stay text, with a note whether they were quoted: what an unquoted ``off`` or ``010`` means depends
  on the type wanted at its place, which is known later (`proxy.config.lower`);
* tags (``!!python/…``, ``!include``) are problems: the format needs none;
* anchors, aliases and merge keys (``<<``) work, but an alias counts as all the nodes it stands for, and
  more than `_MOST_NODES` of them is a problem: nine lines of nested aliases can otherwise stand for a
  billion nodes;
* nesting beyond `_DEEPEST` and text beyond `LARGEST_TEXT` are problems too.

A problem does not stop the reading unless nothing sensible can follow it (a syntax error, a bomb).
Aliased nodes are shared, never copied; the tree is therefore a graph without cycles, and safe to walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from proxy.config.problems import Place, Problem, format_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.problems import Path

__all__ = ("LARGEST_TEXT", "Entry", "Node", "Scalar", "Sequence", "Tree", "parse")

LARGEST_TEXT: Final = 1 << 20
_DEEPEST: Final = 32
_MOST_NODES: Final = 20_000
_WIDEST_EXCERPT: Final = 240
_Loader: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # libyaml parses 14 times faster; both emit the same events


@dataclass(slots=True, eq=False)
class Scalar:
    """A scalar as written; `is_plain` when it stood without quotes."""

    text: str
    place: Place
    is_plain: bool = True


@dataclass(slots=True, eq=False)
class Sequence:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Entry:
    """A key's place and its value."""

    place: Place
    value: Node


@dataclass(slots=True, eq=False)
class Tree:
    """A mapping, in file order."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)


Node = Scalar | Sequence | Tree


class _Unreadable(Exception):
    """Nothing sensible can follow this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of `text` (None when it is empty or unreadable) and every problem in its syntax."""
    reader = _Reader(text, file)
    if len(text) > LARGEST_TEXT:
        return None, [Problem(Place(file), "", f"larger than {LARGEST_TEXT >> 20} MiB")]
    try:
        return reader.document(), reader.problems
    except _Unreadable as error:
        return None, [*reader.problems, error.problem]
    except yaml.YAMLError as error:
        return None, [*reader.problems, reader.syntax_problem(error)]


class _Reader:
    """Builds the tree from events; one for each text."""

    def __init__(self, text: str, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._lines = text.splitlines()
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0

    def document(self) -> Node | None:
        next(self._events)  # the start of the stream
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            return None
        node = self._node(self._next(), ())
        next(self._events)  # the end of the document
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            self._note(self._place(more), (), "a second document: one file holds one configuration")
        return node

    def syntax_problem(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        message = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        place = Place(self._file) if mark is None else self._at(mark.line, mark.column)
        # within { } a bare ${ opens a mapping: by far the likeliest way to break a line that holds one
        hint = 'quotes around "${…}"' if "${" in place.excerpt else ""
        return Problem(place, "", f"not YAML: {message}", hint)

    # ------------------------------------------------------------- nodes
    def _next(self) -> yaml.Event:
        return next(self._events)

    def _node(self, event: yaml.Event, path: Path) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        start = cast("yaml.ScalarEvent | yaml.CollectionStartEvent", event)
        place = self._place(start)
        before = self._nodes
        self._grow(1, place)
        if start.tag is not None:
            self._note(place, path, "tags are not used here: quote the value if it must be text")
        if start.anchor is not None:
            self._anchors.pop(start.anchor, None)  # until it is whole, an alias to it would be a cycle
        node = self._build(start, place, path)
        if start.anchor is not None:
            self._anchors[start.anchor] = node, self._nodes - before
        return node

    def _build(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place, path: Path) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(event.value, place, is_plain=not event.style)
        if len(path) >= _DEEPEST:
            raise _Unreadable(Problem(place, format_path(path), f"nested more than {_DEEPEST} deep"))
        is_list = isinstance(event, yaml.SequenceStartEvent)
        return self._sequence(place, path) if is_list else self._tree(place, path)

    def _sequence(self, place: Place, path: Path) -> Sequence:
        sequence = Sequence(place)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            sequence.items.append(self._node(event, (*path, len(sequence.items))))
        return sequence

    def _tree(self, place: Place, path: Path) -> Tree:
        tree = Tree(place)
        merged: list[Tree] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path)
            value = self._node(self._next(), (*path, key.text))
            if key.text == "<<" and key.is_plain:
                merged.extend(self._sources(value, path))
            elif key.text in tree.entries:
                first = tree.entries[key.text].place.line
                self._note(key.place, (*path, key.text), f"duplicate key (first on line {first})")
            else:
                tree.entries[key.text] = Entry(key.place, value)
        for source in merged:
            tree.entries = source.entries | tree.entries
        return tree

    def _key(self, event: yaml.Event, path: Path) -> Scalar:
        if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            key = self._node(event, path)
            if isinstance(key, Scalar):
                return key
        raise _Unreadable(Problem(self._place(event), format_path(path), "a key must be text"))

    def _sources(self, value: Node, path: Path) -> list[Tree]:
        items = value.items if isinstance(value, Sequence) else [value]
        trees = [item for item in items if isinstance(item, Tree)]
        if len(trees) < len(items):
            self._note(value.place, (*path, "<<"), "only a mapping, or a list of mappings, can be merged")
        return trees

    def _alias(self, event: yaml.AliasEvent, path: Path) -> Node:
        place = self._place(event)
        known = self._anchors.get(event.anchor or "")
        if known is None:
            raise _Unreadable(
                Problem(place, format_path(path), f"no anchor &{event.anchor} is complete before this")
            )
        node, size = known
        self._grow(size, place)
        return node

    # ------------------------------------------------------------- checks
    def _grow(self, count: int, place: Place) -> None:
        self._nodes += count
        if self._nodes > _MOST_NODES:
            raise _Unreadable(Problem(place, "", f"more than {_MOST_NODES} values, counting aliases in full"))

    def _note(self, place: Place, path: Path, message: str) -> None:
        self.problems.append(Problem(place, format_path(path), message))

    # ------------------------------------------------------------- places
    def _place(self, event: yaml.Event) -> Place:
        start, end = cast("tuple[yaml.Mark, yaml.Mark]", (event.start_mark, event.end_mark))
        width = end.column - start.column if end.line == start.line else 1
        return self._at(start.line, start.column, max(1, width))

    def _at(self, line: int, column: int, width: int = 1) -> Place:
        excerpt = self._lines[line] if line < len(self._lines) else ""
        if len(excerpt) > _WIDEST_EXCERPT:
            excerpt = ""
        return Place(self._file, line + 1, column + 1, excerpt, width)
