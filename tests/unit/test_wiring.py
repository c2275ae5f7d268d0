"""What a configuration comes to, where it leaves that open."""

from __future__ import annotations

import pytest

from proxy.config.load import load_text
from proxy.wiring import managed_upstream

GENERIC = 'any: {protocol: generic, http: ["http://127.0.0.1:1"]}'
KNOWN = 'model: {protocol: open-inference, http: ["http://127.0.0.1:2"]}'


@pytest.mark.parametrize(
    ("upstreams", "loading", "managed"),
    [
        (f"{GENERIC}, {KNOWN}", "mode: observe", "model"),
        (GENERIC, "mode: observe", ""),
        (GENERIC, "control: {protocol: open-inference}", "any"),
        (GENERIC, "control: {upstream: any}", "any"),
        (f"{GENERIC}, {KNOWN}", "mode: demand", "any"),
    ],
)
def test_a_generic_backend_is_asked_about_models_only_where_that_is_wanted(
    upstreams: str, loading: str, managed: str
) -> None:
    text = f"version: 1\nupstreams: {{{upstreams}}}\nloading: {{{loading}}}\n"
    assert managed_upstream(load_text(text, "f", environ={}).config) == managed
