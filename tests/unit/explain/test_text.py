"""Explanations as text."""

from __future__ import annotations

from proxy.explain.text import as_text


def test_sections_are_blocks_and_the_outcome_comes_last() -> None:
    explanation = {
        "outcome": "forwarded alone: off",
        "route": {"name": "predict", "matched": ["GET /a", "POST /b"], "version": None, "settings_of": []},
        "batch": {"merged": False, "key": {"headers": {"host": "m"}}, "limits": {"max_wait_s": 0.05}},
        "cache": {"looked_up": True, "entry_bytes": 1024, "questions": 3},
        "upstream": {"endpoints": [{"endpoint": "http://a", "why": ""}], "empty": []},
        "nothing": {},
    }
    assert as_text(explanation) == (
        "route\n"
        "  name         predict\n"
        "  matched      GET /a, POST /b\n"
        "  version      -\n"
        "  settings_of  -\n"
        "batch\n"
        "  merged            no\n"
        "  key.headers.host  m\n"
        "  limits.max_wait   50ms\n"
        "cache\n"
        "  looked_up    yes\n"
        "  entry_bytes  1KiB\n"
        "  questions    3\n"
        "upstream\n"
        "  endpoints.0.endpoint  http://a\n"
        "  endpoints.0.why\n"
        "  empty                 -\n"
        "nothing\n"
        "=> forwarded alone: off\n"
    )


def test_a_list_of_objects_at_the_top() -> None:
    assert as_text({"all": [{"a": 1}], "outcome": "so"}) == "all\n  0.a  1\n=> so\n"
