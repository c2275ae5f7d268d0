from __future__ import annotations

import importlib.util
import os
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from proxy.build import BUILD

ROOT = Path(__file__).parents[2]


def to_be_compiled() -> list[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    paths: list[str] = document["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    return [path.removeprefix("/").removesuffix(".py").replace("/", ".") for path in paths]


def is_compiled(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is named in pyproject.toml and does not exist"
    assert spec.origin is not None
    return spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def test_a_build_is_compiled_wholly_or_not_at_all() -> None:
    modules = to_be_compiled()
    assert modules
    assert {module for module in modules if is_compiled(module)} == {
        module for module in modules if BUILD == "compiled"
    }


def test_the_build_under_test_is_the_one_that_was_asked_for() -> None:
    assert os.environ.get("PILLION_BUILD", BUILD) == BUILD
