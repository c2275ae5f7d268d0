"""The usual run draws the same examples every time. `--hypothesis-profile=fuzz` draws others, and more
(`tests.fuzz`); `--hypothesis-profile=long` looks forty times as hard."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("usual", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=300, deadline=None, print_blob=True, database=None)
settings.register_profile("long", max_examples=4000, deadline=None)
settings.load_profile("usual")
