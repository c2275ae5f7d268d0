from __future__ import annotations

import pytest

from proxy.routing.policy import check_pattern


@pytest.mark.parametrize(
    "pattern", ["/", "*", "/*", "/a/{model}:predict", "/{model}/v/{version}", "/a%20b", "/{x_1}*"]
)
def test_patterns(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "starts with /"),
        ("a", "starts with /"),
        ("**", "starts with /"),
        ("/a?b", "encoded path"),
        ("/a#b", "encoded path"),
        ("/a b", "encoded path"),
        ("/ü", "encoded path"),
        ("/a\x00", "encoded path"),
        ("/*/a", "can only be last"),
        ("/{Model}", "lower case"),
        ("/{}", "lower case"),
        ("/{a", "lower case"),
        ("/a}", "lower case"),
        ("/{{a}}", "lower case"),
        ("/{a}/{a}", "stands once"),
        ("/{a}{b}", "some text between"),
    ],
)
def test_what_is_no_pattern(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_pattern(pattern)
