"""All tables in the order of the document."""

from __future__ import annotations

from tests.integration.http import cases_bodies, cases_requests, cases_smuggling

__all__ = ("CASES",)

CASES = (*cases_requests.CASES, *cases_bodies.CASES, *cases_smuggling.CASES)
