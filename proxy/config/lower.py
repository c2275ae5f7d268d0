"""The located tree → plain values that the model can validate, read as the type wanted at each place.

Theory of operation
------------------- Tree and model are walked together. Where the model has fixed keys, keys that start with
``x-`` are dropped: they hold anchors and notes (where the operator chooses the keys, such as model names,
``x-ray`` is a name like any other). A mapping with nothing in it may be left empty (``pool:`` with every
line below commented out means all defaults). An unquoted scalar is read by `proxy.config.scalars`; a trap
is accepted only as one of the fixed words of its place. A scalar that was filled from the environment is
text where text is wanted and is read like an unquoted one where a number or a truth value is.

Lists become tuples, which is what the strict model takes for them. Next to the value, the walk remembers
where each key and value stands, so that a complaint about the value finds its line; and which values came
from where, for ``dump --origin``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.config.document import Entry, Node, Scalar, Sequence, Tree
from proxy.config.fields import Secret
from proxy.config.problems import Path, Place, Problem, format_path
from proxy.config.scalars import Trap, fill, resolve
from proxy.config.shape import Shape, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ("Lowered", "lower", "spell")

_ANYTHING = Shape()


@dataclass(slots=True)
class Lowered:
    """Plain values with where each came from."""

    value: object = None
    problems: list[Problem] = field(default_factory=list)
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)
    """Scalars as they were written."""
    settled: set[Path] = field(default_factory=set)
    """Places that have their problem already: what validation says about them is noise."""

    def place(self, path: Path, *, of_key: bool = False) -> Place:
        """Where the value at `path` stands, or its key, or whatever encloses it when it was not written."""
        for length in range(len(path), 0, -1):
            found = self._exact(path[:length], of_key=of_key or length < len(path))
            if found is not None:
                return found
        return self.values[()]

    def _exact(self, path: Path, *, of_key: bool) -> Place | None:
        first, second = (self.keys, self.values) if of_key else (self.values, self.keys)
        return first.get(path) or second.get(path)


def lower(tree: Node, shape: Shape, environ: Mapping[str, str], read_secret: Callable[[str], str]) -> Lowered:
    """The values of `tree`; `read_secret` returns a file's text and raises OSError or ValueError."""
    walk = _Walk(environ, read_secret)
    walk.done.value = walk.value(tree, shape, ())
    return walk.done


class _Walk:
    def __init__(self, environ: Mapping[str, str], read_secret: Callable[[str], str]) -> None:
        self.done = Lowered()
        self._environ = environ
        self._read_secret = read_secret

    def value(self, node: Node, shape: Shape, path: Path) -> object:
        self.done.values[path] = node.place
        if isinstance(node, Scalar):
            return self._scalar(node, shape, path)
        if isinstance(node, Sequence):
            inner = shape.items or _ANYTHING
            return tuple(self.value(item, inner, (*path, index)) for index, item in enumerate(node.items))
        if shape.is_secret and set(node.entries) == {"file"}:
            return self._secret(node, path)
        return self._mapping(node, shape, path)

    # ------------------------------------------------------------- mappings
    def _mapping(self, tree: Tree, shape: Shape, path: Path) -> dict[str, object]:
        fixed = None if shape.struct is None else {name: inner for name, _, inner in fields_of(shape.struct)}
        values: dict[str, object] = {}
        for name, entry in tree.entries.items():
            if fixed is not None and name.startswith("x-"):
                continue
            inner = shape.entries if fixed is None else fixed.get(name)
            values[name] = self._entry(entry, inner or _ANYTHING, (*path, name))
        return values

    def _entry(self, entry: Entry, shape: Shape, path: Path) -> object:
        self.done.keys[path] = entry.place
        return self.value(entry.value, shape, path)

    def _secret(self, tree: Tree, path: Path) -> object:
        node = tree.entries["file"].value
        file = self._filled(node, path) if isinstance(node, Scalar) else ""
        self.done.origins[path] = str(node.place)
        try:
            return Secret(self._read_secret(file), file)
        except (OSError, ValueError) as error:
            self._complain(
                node.place, path, f"the secret cannot be read: {getattr(error, 'strerror', None) or error}"
            )
            return ""

    # ------------------------------------------------------------- scalars
    def _scalar(self, node: Scalar, shape: Shape, path: Path) -> object:
        self.done.texts[path] = node.text
        self.done.origins[path] = str(node.place)
        if "${" in node.text:
            return self._as_wanted(self._filled(node, path), shape)
        text = node.text
        if not node.is_plain:
            return text
        value = resolve(text)
        if value is None and shape.is_mapping and not shape.is_optional:
            return {}
        return self._untrapped(value, node, shape, path) if isinstance(value, Trap) else value

    def _filled(self, node: Scalar, path: Path) -> str:
        filled = fill(node.text, self._environ)
        for message, suggestion in filled.errors:
            self._complain(node.place, path, message, suggestion)
        if filled.names:
            self.done.origins[path] = f"env {', '.join(filled.names)} ({node.place})"
        return filled.text

    @staticmethod
    def _as_wanted(text: str, shape: Shape) -> object:
        if not text and shape.is_optional:
            return None
        wanted = shape.scalars | {type(word) for word in shape.words}
        value = resolve(text) if wanted & {int, float, bool} else text
        return value.text if isinstance(value, Trap) else value

    def _untrapped(self, trap: Trap, node: Scalar, shape: Shape, path: Path) -> str:
        if trap.text not in shape.words and shape != _ANYTHING:
            fitting = [reading for reading in trap.readings if type(reading) in shape.scalars]
            likely = fitting[0] if fitting else trap.text
            self._complain(node.place, path, trap.why, spell(likely, shape, trap.readings))
        return trap.text

    def _complain(self, place: Place, path: Path, message: str, suggestion: str = "") -> None:
        self.done.settled.add(path)
        self.done.problems.append(Problem(place, format_path(path), message, suggestion))


def spell(value: object, shape: Shape, readings: tuple[object, ...] = ()) -> str:
    """How `value` is best written where `shape` is wanted; "" when nothing sensible is known."""
    numbers = [
        reading
        for reading in (value, *readings)
        if isinstance(reading, int | float) and not isinstance(reading, bool)
    ]
    if shape.kind == "duration":
        return f"{numbers[0]}s" if numbers else ""
    if shape.kind == "size":
        return f"{numbers[0]}B" if numbers else ""
    if shape.kind == "share":
        return _share(numbers[0]) if numbers else ""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _share(number: float) -> str:
    return f"{number * 100:g}%" if 0 < number <= 1 else f"{number:g}%"
