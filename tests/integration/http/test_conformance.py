"""Every case of the tables, and the document that is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.http.cases import CASES, DIALOGUES
from tests.integration.http.conformance import Case, Seen, play
from tests.integration.http.document import PATH, expected_rows, render

if TYPE_CHECKING:
    from tests.integration.http.dialogues import Dialogue


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.item}-{case.title}")
async def test_item(case: Case) -> None:
    assert await play(case) == Seen(case.backend, case.client)


@pytest.mark.parametrize("scene", DIALOGUES, ids=lambda scene: f"{scene.item}-{scene.title}")
async def test_dialogue(scene: Dialogue) -> None:
    assert await scene.play() == scene.expected


def test_every_item_has_a_row() -> None:
    told = {row.item for row in expected_rows()}
    assert told == {str(item) for item in range(1, 49)} | {f"S{item}" for item in range(1, 24)}


def test_the_document_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == render(expected_rows()), (
        "run python -m tests.integration.http.document"
    )
