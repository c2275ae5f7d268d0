"""The files that users copy from, and the files that are made from the model."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from proxy.config.__main__ import generate, generated
from proxy.config.document import parse
from proxy.config.load import check, load_file
from proxy.config.lower import lower
from proxy.config.model import Config
from proxy.config.schema import json_schema
from proxy.config.shape import shape_of

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))


def plain(text: str) -> object:
    """The values of a YAML text as JSON knows them, placeholders left as they are."""
    node, problems = parse(text, "example")
    assert node is not None
    assert problems == []

    class Unset(dict[str, str]):
        def get(self, key: str, default: object = None) -> str:
            del default
            return f"${{env:{key}}}"

    def as_json(value: object) -> object:
        if isinstance(value, dict):
            return {key: as_json(inner) for key, inner in value.items()}
        return [as_json(item) for item in value] if isinstance(value, tuple) else value

    return as_json(lower(node, shape_of(Config), Unset(), str).value)


def test_there_are_examples() -> None:
    assert [path.name for path in EXAMPLES] == [
        "batching.yaml",
        "caching.yaml",
        "edge.yaml",
        "generic.yaml",
        "grpc-only.yaml",
        "grpc.yaml",
        "kserve-v1.yaml",
        "l4.yaml",
        "loading.yaml",
        "minimal.yaml",
        "open-inference.yaml",
        "streaming.yaml",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_no_problem(path: Path) -> None:
    assert check(path, environ={}) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_satisfies_the_schema(path: Path) -> None:
    jsonschema.validate(plain(path.read_text(encoding="utf-8")), json_schema())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nupstreams: {m: {http: [http://a], pol: {}}}",
        "version: 2\nupstreams: {m: {http: [http://a]}}",
        "version: 1\nupstreams: {m: {http: [http://a], timeouts: {idle: 30}}}",
        "version: 1\nupstreams: {m: {http: 1}}",
        "version: 1\nupstreams: {m: {http: [http://a]}}\nmodels: {a: {batch: {mode: always}}}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(plain(text), json_schema())


def test_generated_files_are_current() -> None:
    for path, text in generated(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, "run: python -m proxy.config"


def test_generating_brings_files_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "config/schema").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    stale = "".join(
        f"<!-- {name}: begin -->\nout of date\n<!-- {name}: end -->\n" for name in ("keys", "protocols")
    )
    (tmp_path / "docs/configuration.md").write_text(stale, encoding="utf-8")
    generate(tmp_path)
    for path, text in generated(tmp_path).items():
        assert path.read_text(encoding="utf-8") == text
    assert "out of date" not in (tmp_path / "docs/configuration.md").read_text(encoding="utf-8")


def test_the_environment_reaches_the_value() -> None:
    environ = {"MODEL_URL": "http://elsewhere:9000"}
    config = load_file(ROOT / "config" / "kserve-v1.yaml", environ=environ).config
    assert config.upstreams["model"].http[0].url == "http://elsewhere:9000"
