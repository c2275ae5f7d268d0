from __future__ import annotations

import pytest

from proxy.config.dump import dump
from proxy.config.load import load_text

TEXT = """version: 1
upstreams:
  m: {protocol: kserve-v1, http: ["http://a", "${env:B:-http://b}"]}
server: {limits: {inflight: "${env:N}"}}
routes:
  - {match: {path: "/x/{model}*", method: POST}, upstream: m, timeout: 90s}
models:
  "*": {batch: {mode: off}}
  "a b": {batch: {max_wait: 5ms}}
  no: {batch: {isolate: []}}
"""


def test_the_effective_configuration_loads_back() -> None:
    loaded = load_text(TEXT, "f", ["server.limits.body=1MiB"], {"N": "5"})
    text = dump(loaded)
    again = load_text(text, "f", environ={})
    assert again.config == loaded.config
    assert again.config.model_policy("a b") == loaded.config.model_policy("a b")
    assert dump(again) == text


def test_every_default_is_shown() -> None:
    text = dump(load_text(TEXT, "f", environ={"N": "5"}))
    assert '    listen: "127.0.0.1:9901"\n' in text
    assert "      least: 25\n" in text.partition("models:")[2]
    assert "#" not in text


def test_a_glob_shows_only_what_it_sets() -> None:
    models = (
        dump(load_text(TEXT, "f", environ={"N": "5"}))
        .partition("models:\n")[2]
        .partition("cache:\n  backend")[0]
    )
    assert models.endswith(
        '  "a b":\n    batch:\n      max_wait: 5ms\n  "no":\n    batch:\n      isolate: []\n'
    )


def test_origins() -> None:
    loaded = load_text(TEXT, "f", ["server.limits.body=1MiB"], {"N": "5"})
    lines = {
        line.split("  # ")[0].strip(): line.partition("  # ")[2]
        for line in dump(loaded, with_origin=True).splitlines()
    }
    assert lines["version: 1"] == "f:1:10"
    assert lines["inflight: 5"] == "env N (f:4:29)"
    assert lines["body: 1MiB"] == "command line"
    assert lines["headers: 100"] == "default"
    assert lines['http: ["http://a", "http://b"]'] == "f:3:35"
    assert (
        lines['- {match: {path: "/x/{model}*", method: POST}, upstream: m, timeout: 90s, codec: auto}']
        == "f:6:20"
    )
    assert lines["server:"] == ""


def test_the_routes_that_nobody_wrote_are_listed() -> None:
    lines = dump(load_text(TEXT, "f", environ={"N": "5"}), with_origin=True).splitlines()
    assert (
        "#   POST /v1/models/{model}:predict -> m: infer, batched as kserve_v1 (kserve-v1/predict)" in lines
    )
    assert lines[-1] == "#   any method * -> m: other (kserve-v1/other)"


@pytest.mark.parametrize(
    ("host", "spelt"),
    [
        ("off", '"off"'),
        ("007", '"007"'),
        ("12", '"12"'),
        ("1:30", '"1:30"'),
        ("plain.name", "plain.name"),
        ("-", '"-"'),
    ],
)
def test_text_that_would_be_read_as_something_else_is_quoted(host: str, spelt: str) -> None:
    text = dump(load_text("version: 1\nupstreams: {m: {http: [http://a], host: '" + host + "'}}", "f"))
    assert f"    host: {spelt}\n" in text


def test_placeholders_in_values_are_escaped() -> None:
    source = (
        "version: 1\nupstreams: {m: {http: [http://a]}}\nmodels: {'*': {batch: {isolate: ['$${env:N}']}}}"
    )
    loaded = load_text(source, "f", environ={})
    assert loaded.config.model_policy("x").batch.isolate == ("${env:N}",)
    assert load_text(dump(loaded), "f", environ={}).config == loaded.config
