from __future__ import annotations

import pytest

from proxy.config.reference import with_tables

EMPTY = (
    "before\n<!-- keys: begin -->\nold\n<!-- keys: end -->\nbetween\n"
    "<!-- protocols: begin -->\n<!-- protocols: end -->\nafter\n"
)


def test_tables_replace_what_stands_between_the_markers() -> None:
    text = with_tables(EMPTY)
    assert text.startswith("before\n<!-- keys: begin -->\n")
    assert text.endswith("<!-- protocols: end -->\nafter\n")
    assert "\nold\n" not in text
    assert "\nbetween\n" in text
    assert with_tables(text) == text


@pytest.mark.parametrize(
    "row",
    [
        "| `server.limits.body` | `32MiB` | size | ",
        "| `upstreams.<name>.http` | `[]` | list of url | ",
        "| `routes[].match.method` | none | text | HTTP method (`GET` includes `HEAD`); none: any. |",
        "| `models.<glob>.batch.inflight` | `auto` | `auto` \\| whole number | ",
        '| `models.<glob>.batch.isolate` | `["authorization"]` | list of text | ',
        "| `POST /v2/models/{model}/infer` | infer | yes |",
        "| `/inference.GRPCInferenceService/ModelInfer` | infer | yes |",
        "| `GET /v2` | metadata | no |",
    ],
)
def test_rows(row: str) -> None:
    assert len([line for line in with_tables(EMPTY).splitlines() if line.startswith(row)]) == 1


def test_every_row_says_what_it_means() -> None:
    rows = [
        line for line in with_tables(EMPTY).splitlines() if line.startswith("| `") and line.count(" | ") == 3
    ]
    assert len(rows) > 20
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize("text", ["", "<!-- keys: begin -->\n", EMPTY.replace("<!-- protocols: end -->", "")])
def test_a_missing_marker(text: str) -> None:
    with pytest.raises(ValueError, match="no <!-- "):
        with_tables(text)
