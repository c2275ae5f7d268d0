"""The computations behind the demo's models: small, real, exact.

A model maps named input columns to named output columns; a column is a list with one entry for each item.
Every item is computed on its own, so an answer never depends on what else is in the batch: whatever batching
does, the same input gives the same bytes.

* ``digits``: the digits classifier (logistic regression, integer weights exported once from scikit-learn).
  Input ``image`` [n, 64] of grey levels 0 … 16, outputs ``label`` [n] and ``scores`` [n, 10].
* ``sum``: adds up each row, of any length. Costs next to nothing: the stub of throughput measurements.
* ``pair``: two inputs ``a`` and ``b`` of equal shape [n, k], outputs ``total`` [n, k] and ``dot`` [n].
* ``words``: BYTES in, BYTES out: each string reversed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import fsum
from operator import mul
from typing import Any, ClassVar, TypeVar

from proxy.demo.options import POISON

__all__ = (
    "KINDS",
    "Columns",
    "Digits",
    "ItemError",
    "Model",
    "Pair",
    "PoisonedItem",
    "Sum",
    "TensorSpec",
    "Words",
    "sample_images",
)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

PIXELS = {character: level for level, character in enumerate("0123456789abcdefg")}

Columns = Mapping[str, list[Any]]
"""Tensors by name, one entry for each item."""


class ItemError(Exception):
    """Item `index` cannot be computed."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class PoisonedItem(ItemError):
    """Item `index` breaks the whole batch on purpose."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as metadata shows it; the first dimension is the batch (-1)."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Model(ABC):
    """One computation."""

    inputs: ClassVar[tuple[TensorSpec, ...]]
    outputs: ClassVar[tuple[TensorSpec, ...]]
    v1_output: ClassVar[str | None]
    """The output that KServe V1 predictions hold; None: an object of all outputs."""

    @abstractmethod
    def compute(self, columns: Columns) -> dict[str, list[Any]]:
        """The outputs of each item; raises `ItemError`."""


@cache
def _document() -> dict[str, Any]:
    text = (files("proxy.demo") / "digits.json").read_text(encoding="ascii")
    document: dict[str, Any] = json.loads(text)
    return document


def sample_images() -> list[tuple[list[int], int]]:
    """Real handwritten digits (64 grey levels, row by row) with what they show."""
    document = _document()
    images = [[PIXELS[character] for character in sample] for sample in document["samples"]]
    return list(zip(images, document["labels"], strict=True))


class _Poison(Exception):
    """Raised by a computation that meets a poisoned item."""


def _each(items: Iterable[_Item], function: Callable[[_Item], _Result]) -> list[_Result]:
    """`function` of each item; whatever is wrong with one becomes an `ItemError` that knows its index."""
    results: list[_Result] = []
    try:
        for item in items:
            results.append(function(item))  # noqa: PERF401  a comprehension would not know how far it came
    except _Poison:
        raise PoisonedItem(len(results), "the computation failed") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ItemError(len(results), str(error)) from None
    return results


def _row(value: object, length: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("expected a row of numbers")
    if length is not None and len(value) != length:
        raise ValueError(f"expected a row of {length} numbers, got {len(value)}")
    if value and value[0] == POISON:
        raise _Poison
    return value


class Digits(Model):
    """Ten scores for an image of 8 x 8 grey levels; the label is the first highest."""

    inputs = (TensorSpec("image", "FP32", (-1, 64)),)
    outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("scores", "FP64", (-1, 10)))
    v1_output = "label"

    def __init__(self) -> None:
        document = _document()
        self._classes: list[tuple[int, list[int]]] = list(
            zip(document["intercept"], document["weights"], strict=True)
        )

    def compute(self, columns: Columns) -> dict[str, list[Any]]:
        """See `Model.compute`."""
        scores = _each(columns["image"], self._scores)
        return {"label": [row.index(max(row)) for row in scores], "scores": scores}

    def _scores(self, item: object) -> list[float]:
        image = _row(item, 64)
        return [float(sum(map(mul, weights, image), bias)) for bias, weights in self._classes]


class Sum(Model):
    """The sum of each row."""

    inputs = (TensorSpec("x", "FP64", (-1, -1)),)
    outputs = (TensorSpec("sum", "FP64", (-1,)),)
    v1_output = "sum"

    def compute(self, columns: Columns) -> dict[str, list[Any]]:
        """See `Model.compute`."""
        return {"sum": _each(columns["x"], lambda item: fsum(_row(item)))}


class Pair(Model):
    """Elementwise total and dot product of two rows."""

    inputs = (TensorSpec("a", "FP64", (-1, -1)), TensorSpec("b", "FP64", (-1, -1)))
    outputs = (TensorSpec("total", "FP64", (-1, -1)), TensorSpec("dot", "FP64", (-1,)))
    v1_output = None

    def compute(self, columns: Columns) -> dict[str, list[Any]]:
        """See `Model.compute`."""
        results = _each(zip(columns["a"], columns["b"], strict=True), self._total_and_dot)
        return {"total": [total for total, _ in results], "dot": [dot for _, dot in results]}

    @staticmethod
    def _total_and_dot(item: tuple[object, object]) -> tuple[list[float], float]:
        a = _row(item[0])
        b = _row(item[1], len(a))
        return [float(x + y) for x, y in zip(a, b, strict=True)], fsum(map(mul, a, b))


class Words(Model):
    """Each string reversed."""

    inputs = (TensorSpec("text", "BYTES", (-1,)),)
    outputs = (TensorSpec("reversed", "BYTES", (-1,)),)
    v1_output = "reversed"

    def compute(self, columns: Columns) -> dict[str, list[Any]]:
        """See `Model.compute`."""
        return {"reversed": _each(columns["text"], self._reverse)}

    @staticmethod
    def _reverse(item: object) -> str:
        if not isinstance(item, str):
            raise TypeError("expected a string")
        return item[::-1]


KINDS: Mapping[str, type[Model]] = {"digits": Digits, "sum": Sum, "pair": Pair, "words": Words}
