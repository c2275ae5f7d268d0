"""A whole proxy in the test's own loop, made of a configuration's text as `pillion serve` makes it of a file.

async with serving("version: 1\n…") as app:
    …                                             # `app.http.address`, `app.grpc`, `app.admin`
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from proxy.app import App, build
from proxy.config.load import load_text
from proxy.timing import LoopClock
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("serving",)


@asynccontextmanager
async def serving(config: str) -> AsyncIterator[App]:
    """The proxy that `config` describes, once it is ready."""
    app = build(load_text(config, "test.yaml"), LoopClock(), lambda: 0.0)
    task = asyncio.get_running_loop().create_task(app.run())
    try:
        await until(lambda: app.life.state.value == "ready" or task.done())
        yield app
    finally:
        app.life.request_stop()
        await task
