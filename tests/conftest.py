"""The usual run draws the same examples every time. `--hypothesis-profile=fuzz` draws others, and more
(`tests.fuzz`); `--hypothesis-profile=long` looks forty times as hard."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes, or its making, is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
patient = settings.get_profile("patient")
settings.register_profile("usual", patient, derandomize=True)
settings.register_profile("fuzz", patient, max_examples=300, print_blob=True, database=None)
settings.register_profile("long", patient, max_examples=4000)
settings.load_profile("usual")
