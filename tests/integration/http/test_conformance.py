"""Every case of the tables, and the document that is made of them."""

from __future__ import annotations

import pytest

from tests.integration.http.cases import CASES
from tests.integration.http.conformance import Case, Seen, play
from tests.integration.http.dialogues import DIALOGUES, Dialogue


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.item}-{case.title}")
async def test_item(case: Case) -> None:
    assert await play(case) == Seen(case.backend, case.client)


@pytest.mark.parametrize("scene", DIALOGUES, ids=lambda scene: f"{scene.item}-{scene.title}")
async def test_dialogue(scene: Dialogue) -> None:
    assert await scene.play() == scene.expected
