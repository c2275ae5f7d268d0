from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.config.fields import (
    Policy,
    Secret,
    SecretText,
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds", "shortest"),
    [
        ("50ms", 0.05, "50ms"),
        ("1.5s", 1.5, "1500ms"),
        ("90s", 90.0, "90s"),
        ("120s", 120.0, "2m"),
        ("24h", 86400.0, "1d"),
        ("250us", 0.00025, "250us"),
        ("0s", 0.0, "0s"),
        ("0.1us", 0.0, "0s"),
        ("3650d", 315_360_000.0, "3650d"),
    ],
)
def test_durations(text: str, seconds: float, shortest: str) -> None:
    assert parse_duration(text) == seconds
    assert format_duration(seconds) == shortest


@pytest.mark.parametrize("value", [30, 0.5, "30", "30 s", "-1s", "s", "", None, True, "1m30s", "٣s"])
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


def test_a_duration_has_an_end() -> None:
    with pytest.raises(ValueError, match="3650d"):
        parse_duration("3651d")


@pytest.mark.parametrize(
    ("text", "size", "shortest"),
    [
        ("64KiB", 65536, "64KiB"),
        ("1024KiB", 1 << 20, "1MiB"),
        ("1.5GiB", 3 << 29, "1536MiB"),
        ("8MB", 8_000_000, "8000000B"),
        ("1TiB", 1 << 40, "1TiB"),
        ("0B", 0, "0B"),
    ],
)
def test_sizes(text: str, size: int, shortest: str) -> None:
    assert parse_size(text) == size
    assert format_size(size) == shortest


@pytest.mark.parametrize("value", [64, "64", "64K", "64 KiB", "-1B", None])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(value)


def test_a_size_has_an_end() -> None:
    with pytest.raises(ValueError, match="1024TiB"):
        parse_size("1025TiB")


@pytest.mark.parametrize(
    ("text", "share"), [("20%", 0.2), ("0%", 0.0), ("100%", 1.0), ("0.1%", 0.001), ("12.3456%", 0.123456)]
)
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == share
    assert format_share(share) == text


@pytest.mark.parametrize("value", [0.2, 20, "20", "101%", "-1%", "999.9%", None])
def test_what_is_no_share(value: object) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        parse_share(value)


class Locked(Policy):
    token: SecretText
    other: SecretText = Secret("")


def test_a_secret_shows_itself_to_nobody_but_who_asks() -> None:
    secret = Secret("hunter2")
    locked = Locked(token=secret)
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {locked!r} {locked} {locked.model_dump_json()}"


def test_a_secret_dumps_as_where_it_came_from() -> None:
    locked = Locked(token=Secret("a", "/run/token"), other=Secret("b"))
    assert locked.model_dump(mode="json") == {"token": {"file": "/run/token"}, "other": "***"}


def test_a_secret_survives_being_copied() -> None:
    locked = Locked.model_validate({"token": "a"})
    assert Locked.model_validate(locked.model_dump()) == locked


def test_secrets_are_values() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b"), Secret("a", "file")}) == 3
    assert Secret("a") != "a"


def test_what_is_no_secret() -> None:
    with pytest.raises(ValidationError, match=r"expected \{file: path\}"):
        Locked.model_validate({"token": 5})
