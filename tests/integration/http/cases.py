"""All tables and dialogues in the order of the document."""

from __future__ import annotations

from tests.integration.http import (
    cases_attacks,
    cases_bodies,
    cases_requests,
    cases_security,
    cases_smuggling,
    dialogues,
    dialogues_leaving,
    dialogues_limits,
    dialogues_security,
    dialogues_tunnels,
    dialogues_whole,
)

__all__ = ("CASES", "DIALOGUES")

CASES = (
    *cases_requests.CASES,
    *cases_bodies.CASES,
    *cases_smuggling.CASES,
    *cases_attacks.CASES,
    *cases_security.CASES,
)

# Importing a module of dialogues enters them in the list.
_ENTERED = (
    dialogues,
    dialogues_leaving,
    dialogues_tunnels,
    dialogues_limits,
    dialogues_security,
    dialogues_whole,
)
DIALOGUES = tuple(dialogues.DIALOGUES)
