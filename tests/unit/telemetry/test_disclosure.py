"""What of a request's fields may be shown."""

from __future__ import annotations

from proxy.telemetry.disclosure import shown_fields


def test_values_are_digests_but_for_harmless_ones() -> None:
    shown = shown_fields(((b"Host", b"m"), (b"Cookie", b"a=1"), (b"X-Key", b"a=1"), (b"Accept", b"*/*")))
    assert (shown["Host"], shown["Accept"]) == ("m", "*/*")
    assert shown["Cookie"] == shown["X-Key"]
    assert shown["Cookie"].startswith("blake2:")
    assert "a=1" not in str(shown)


def test_a_repeated_field_shows_both_values() -> None:
    assert shown_fields(((b"Accept", b"a"), (b"Accept", b"b"))) == {"Accept": "a, b"}
