"""The proxy that everybody writes: `web.Application`, one `ClientSession`, streaming both ways.

It is what a team has the day it decides that it needs a proxy, and the base that the others are measured by.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientSession, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("application",)

HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


def application(upstream: str) -> web.Application:
    """An application that forwards every request to `upstream`."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(limit=1000), auto_decompress=False) as client:
            app[key] = client
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        data = request.content if request.can_read_body else None
        async with app[key].request(
            request.method, upstream + request.raw_path, headers=headers, data=data, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response

    key = web.AppKey("session", ClientSession)
    app = web.Application(client_max_size=1 << 30)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), access_log=None)
