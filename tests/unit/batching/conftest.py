"""A stage for every test of lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.batching import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A batcher before a backend that waits to be told."""
    stage = Stage()
    yield stage
    await stage.leave()
