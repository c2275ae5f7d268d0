"""Houses: loaders with everything around them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.integration.loading.house import House, Open

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def house() -> AsyncIterator[Open]:
    """Builds started houses; stops them when the test is over."""
    built: list[House] = []

    async def build(*names: str, **changes: object) -> House:
        one = House(*names, **changes)  # type: ignore[arg-type]  # forwards any option
        built.append(one)
        return await one.start()

    yield build
    for one in built:
        await one.loader.stop()
        for client in one.clients:
            client.cancel()
        await asyncio.gather(*one.clients, return_exceptions=True)
        assert one.backend.is_closed
