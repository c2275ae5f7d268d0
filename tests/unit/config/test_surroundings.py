"""Secrets are read relative to the file that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.config.load import Surroundings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_read_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"hunter2\r\n")
    (tmp_path / "long").write_bytes(b"x" * (64 << 10))
    around = Surroundings({}, tmp_path)
    assert around.read_secret("token") == "hunter2"
    assert around.read_secret(str(tmp_path / "token")) == "hunter2"
    assert len(around.read_secret("long")) == 64 << 10


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * ((64 << 10) + 1))
    (tmp_path / "binary").write_bytes(b"\xff")
    around = Surroundings({}, tmp_path)
    with pytest.raises(FileNotFoundError):
        around.read_secret("none")
    with pytest.raises(ValueError, match="larger than 64 KiB"):
        around.read_secret("big")
    with pytest.raises(UnicodeDecodeError):
        around.read_secret("binary")
