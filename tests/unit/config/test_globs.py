from __future__ import annotations

import pytest

from proxy.config.globs import Globs, check_glob


@pytest.mark.parametrize(
    ("globs", "name", "matching"),
    [
        (["*"], "anything/at all", ["*"]),
        (["resnet50", "*", "resnet*"], "resnet50", ["*", "resnet*", "resnet50"]),
        (["resnet50", "*", "resnet*"], "resnet", ["*", "resnet*"]),
        (["b?rt", "bert*"], "bert", ["b?rt", "bert*"]),
        (["b?rt", "be*"], "bert", ["be*", "b?rt"]),
        (["a*", "?*"], "ab", ["?*", "a*"]),
        (["*", "?*", "??*"], "ab", ["*", "?*", "??*"]),
        (["a*", "*b"], "ab", ["*b", "a*"]),
        (["*b", "a*"], "ab", ["a*", "*b"]),
        (["Bert"], "bert", []),
        (["a[b]"], "a[b]", ["a[b]"]),
        (["a[b]"], "ab", []),
        (["a.c"], "abc", []),
        (["a*"], "a\nb", ["a*"]),
        (["a"], "a\n", []),
    ],
)
def test_the_most_specific_comes_last(globs: list[str], name: str, matching: list[str]) -> None:
    assert list(Globs(globs).matching(name)) == matching


def test_what_is_no_glob() -> None:
    assert check_glob("a*b?") == "a*b?"
    with pytest.raises(ValueError, match="not empty"):
        check_glob("")
    with pytest.raises(ValueError, match="write \\* once"):
        check_glob("a**")
