"""``python -m tests.integration.http.document``: play everything and write ``docs/http-conformance.md`` from
what was seen."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.integration.http.cases import CASES, DIALOGUES
from tests.integration.http.conformance import Case, play

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("PATH", "Row", "expected_rows", "render")

PATH = Path(__file__).parents[3] / "docs" / "http-conformance.md"
_LONGEST = 160

_GROUPS = {
    "Request line and target": range(1, 11),
    "Host and forwarding fields": range(11, 22),
    "Bodies": range(22, 38),
    "Connections": range(38, 49),
}
_HOSTILE = "Hostile and slow clients"

_INTRODUCTION = """\
# HTTP conformance

What a client sends through Pillion, and what its backend and the client then see: played over raw sockets on
both sides, with bytes that no library has touched, and compared line by line in `tests/integration/http`.
This page is written by `python -m tests.integration.http.document` from what was seen; a test fails when it
is stale.

A backend's line has its requests in order (request line, the fields that matter, `{body}`, trailers after
`+`), a client's its answers and then `open` when the connection served another request, `closed` when it did
not. `‖` stands between messages. Where the fields added by the proxy do not matter they are left out. Ids,
ports and dates are masked.

Two answers differ from what one might expect, for reasons given in [decision
0008](adr/0008-half-closed-or-gone.md) and [decision 0007](adr/0007-own-request-reader.md). """


class Row(NamedTuple):
    """One line of the document."""

    item: str
    title: str
    sent: str
    expected: str
    seen: str


def _of_case(case: Case, backend: str, client: str) -> Row:
    sent = case.sent.decode("latin-1").replace("\r", "\\r").replace("\n", "\\n")
    return Row(
        case.item, case.title, _shortened(sent), _sides(case.backend, case.client), _sides(backend, client)
    )


def _sides(backend: str, client: str) -> str:
    return f"backend: {backend} · client: {client}"


def _shortened(text: str) -> str:
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}… ({len(text)} characters)"


def expected_rows() -> list[Row]:
    """The document's rows when everything is seen as expected."""
    rows = [_of_case(case, case.backend, case.client) for case in CASES]
    rows += [Row(each.item, each.title, each.sent, each.expected, each.expected) for each in DIALOGUES]
    return rows


async def seen_rows() -> list[Row]:
    """The rows of a run."""
    rows = []
    for case in CASES:
        seen = await play(case)
        rows.append(_of_case(case, seen.backend, seen.client))
    for each in DIALOGUES:
        seen_line = await each.play()
        rows.append(Row(each.item, each.title, each.sent, each.expected, seen_line))
    return rows


def render(rows: Iterable[Row]) -> str:
    """The document."""
    rows = sorted(rows, key=lambda row: (row.item.startswith("S"), int(row.item.removeprefix("S"))))
    text = [_INTRODUCTION]
    for title, items in [*_GROUPS.items(), (_HOSTILE, None)]:
        chosen = [row for row in rows if _belongs(row.item, items)]
        text.append(f"\n## {title}\n\n| | case | sent | expected | seen |\n|---|---|---|---|---|\n")
        text += [_line(row) for row in chosen]
    right = sum(row.expected == row.seen for row in rows)
    text.append(f"\n{right} of {len(rows)} as expected.\n")
    return "".join(text)


def _belongs(item: str, items: range | None) -> bool:
    return item.startswith("S") if items is None else not item.startswith("S") and int(item) in items


def _line(row: Row) -> str:
    seen = "as expected" if row.seen == row.expected else _code(row.seen)
    return f"| {row.item} | {_escaped(row.title)} | {_code(row.sent)} | {_code(row.expected)} | {seen} |\n"


def _code(text: str) -> str:
    return "`` " + _escaped(_shortened(text) if len(text) > 2 * _LONGEST else text) + " ``"


def _escaped(text: str) -> str:
    visible = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return visible.replace("|", "\\|")


if __name__ == "__main__":
    logging.disable()  # refusals are what is played here
    PATH.write_text(render(asyncio.run(seen_rows())), encoding="utf-8")
    sys.stdout.write(f"{PATH}\n")
