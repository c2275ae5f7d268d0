"""Pools and connections on fake sockets and a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.one_connection import OwnerOfOne
from tests.support.pool_rig import PoolRig

Rig = Callable[..., PoolRig]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made: list[PoolRig] = []

    def make(policy: dict[str, object] | None = None, **more: object) -> PoolRig:
        made.append(PoolRig(policy, **more))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def owner() -> OwnerOfOne:
    return OwnerOfOne()
