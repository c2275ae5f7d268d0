"""The gRPC proxy that everybody writes: `grpc.aio` on both sides, messages passed on as bytes.

It takes any method and never parses a message; metadata other than a call's own is left out.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import grpc
import uvloop
from grpc import aio

if TYPE_CHECKING:
    from typing import Any

__all__ = ("Relay",)


class Relay(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Forwards every method to `channel` as a unary call."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def service(self, details: Any) -> Any:  # noqa: ANN401  grpcio has no types
        """A handler for the method."""
        unary = self._channel.unary_unary(details.method)

        async def forward(request: bytes, context: aio.ServicerContext) -> bytes:
            answer: bytes = await unary(request, timeout=context.time_remaining())
            return answer

        return grpc.unary_unary_rpc_method_handler(forward)


async def main(upstream: str, port: str) -> None:
    """Serve until the process is ended."""
    async with aio.insecure_channel(upstream) as channel:
        server = aio.server()
        server.add_generic_rpc_handlers((Relay(channel),))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        print(f"listening on {port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
