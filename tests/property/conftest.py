"""`--hypothesis-profile=long` looks forty times as hard as the usual run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("long", max_examples=4000, deadline=None)
