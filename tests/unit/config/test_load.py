from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.config.load import Loaded, check, load_file, load_text, load_upstream
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "version: 1\nupstreams: {m: {http: [http://a]}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pillion.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def complaints(path: Path) -> list[str]:
    return [str(problem).removeprefix(str(path)) for problem in check(path, environ={})]


def test_a_file(file: Path) -> None:
    assert load_file(file).config.upstreams["m"].http[0].url == "http://a"
    assert complaints(file) == []


def test_a_byte_order_mark_is_not_part_of_the_text(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert complaints(file) == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert complaints(tmp_path / "none.yaml") == [": cannot be read: No such file or directory"]
    assert complaints(tmp_path) == [": cannot be read: Is a directory"]


def test_a_file_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(b"version: 1\nx-name: \xff\n")
    assert complaints(file) == [":2:9: not UTF-8"]


def test_a_file_that_is_too_large(file: Path) -> None:
    file.write_bytes(b"#" * (5 << 20))
    assert complaints(file) == [": larger than 1 MiB"]


def test_warnings_do_not_prevent_use(file: Path) -> None:
    file.write_text(GOOD + "models: {a: {batch: {max_wait: 1h}}}", encoding="utf-8")
    assert [problem.severity for problem in check(file)] == ["warning"]
    assert len(load_file(file).warnings) == 1


def test_errors_come_with_the_warnings(file: Path) -> None:
    file.write_text(
        GOOD + "models: {a: {batch: {max_wait: 1h}}}\nroutes: [{match: {path: /}, upstream: b}]",
        encoding="utf-8",
    )
    assert sorted(problem.severity for problem in check(file)) == ["error", "warning"]
    with pytest.raises(ConfigError, match="no upstream is named b"):
        load_file(file)


def test_problems_of_the_syntax_do_not_hide_the_others(file: Path) -> None:
    file.write_text(GOOD + "version: 1\nroutes: [{match: {path: /}, upstream: b}]", encoding="utf-8")
    assert complaints(file) == [
        ":3:1: version: duplicate key (first on line 1)",
        ":4:39: routes[0].upstream: no upstream is named b (did you mean m?)",
    ]


def test_overrides(file: Path) -> None:
    loaded = load_file(file, ["server.limits.inflight=7", "upstreams.m.protocol=openai"], {})
    assert loaded.config.server.limits.inflight == 7
    assert loaded.origins["server", "limits", "inflight"] == "command line"
    assert loaded.origins["version",] == f"{file}:1:10"
    assert [str(p) for p in check(file, ["server.limits.inflight=x", "serve.x=1"])] == [
        "command line:1:24: server.limits.inflight: expected a whole number",
        "command line:1:1: serve: unknown key (did you mean server?)",
    ]


def test_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(GOOD + 'server: {limits: {inflight: "${env:PILLION_TEST}"}}', encoding="utf-8")
    monkeypatch.setenv("PILLION_TEST", "9")
    loaded = load_file(file)
    assert loaded.config.server.limits.inflight == 9
    assert loaded.origins["server", "limits", "inflight"] == f"env PILLION_TEST ({file}:3:29)"


def test_no_file_at_all() -> None:
    loaded = load_upstream("http://127.0.0.1:8000", "kserve-v1", ["server.limits.inflight=7"])
    upstream = loaded.config.upstreams["model"]
    assert (upstream.protocol, [endpoint.url for endpoint in upstream.http]) == (
        "kserve-v1",
        ["http://127.0.0.1:8000"],
    )
    assert set(loaded.origins.values()) == {"command line"}
    assert load_upstream("unix:/run/m.sock").config.upstreams["model"].protocol == "generic"


@pytest.mark.parametrize(
    ("url", "protocol", "complaint"),
    [
        ("8000", "", "command line:1:1: upstreams.model.http[0]: '8000': expected http://host:port"),
        ("http://a", "kserve", "command line: upstreams.model.protocol: expected kserve-v1, open-inference"),
    ],
)
def test_a_wrong_command_line(url: str, protocol: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_upstream(url, protocol)
    assert str(caught.value).startswith(complaint)


def test_text_that_is_not_a_file() -> None:
    loaded = load_text(GOOD, "standard input")
    assert isinstance(loaded, Loaded)
    assert loaded.origins["version",] == "standard input:1:10"
