"""A gRPC service with every kind of call, on grpcio, and what it saw."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import grpc
from grpc import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

__all__ = ("SPECIAL", "UNLIMITED", "Service", "running")

Metadata = tuple[tuple[str, str | bytes], ...]
ECHOED = frozenset(("x-text", "x-twice", "x-data-bin"))
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Details(Protocol):
    """What grpcio tells of a call before it is served."""

    method: str


class Context(Protocol):
    """What grpcio offers a method."""

    def time_remaining(self) -> float | None: ...
    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]: ...
    async def send_initial_metadata(self, metadata: Metadata) -> None: ...
    def set_trailing_metadata(self, metadata: Metadata) -> None: ...
    def set_compression(self, compression: grpc.Compression) -> None: ...
    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Methods of ``/t.T``; `cancelled` counts calls whose client went away, `deadlines` what was left of them."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Semaphore(0)
        self.started = asyncio.Semaphore(0)
        self.time_left: list[float | None] = []
        self.metadata: list[tuple[str, str | bytes]] = []

    def service(self, details: Details) -> object:
        kinds = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Count": (grpc.unary_stream_rpc_method_handler, self.count),
            "Sum": (grpc.stream_unary_rpc_method_handler, self.sum),
            "Echo": (grpc.stream_stream_rpc_method_handler, self.echo),
            "Sleep": (grpc.unary_unary_rpc_method_handler, self.sleep),
            "Fail": (grpc.unary_unary_rpc_method_handler, self.fail),
            "Special": (grpc.unary_unary_rpc_method_handler, self.special),
            "Squeezed": (grpc.unary_stream_rpc_method_handler, self.squeezed),
            "FailLate": (grpc.unary_stream_rpc_method_handler, self.fail_late),
        }
        make, method = kinds.get(details.method.rpartition("/")[2], (None, None))
        return None if make is None else make(method)

    async def unary(self, request: bytes, context: Context) -> bytes:
        self.time_left.append(context.time_remaining())
        self.metadata = list(context.invocation_metadata())
        echoed = tuple(pair for pair in self.metadata if pair[0] in ECHOED)
        await context.send_initial_metadata(echoed)
        context.set_trailing_metadata((*echoed, ("x-trailing-bin", b"\x00\xff")))
        return request

    async def count(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def sum(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    async def echo(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def sleep(self, request: bytes, context: Context) -> bytes:
        self.started.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        return request

    async def fail(self, request: bytes, context: Context) -> bytes:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09"), ("x-why", "because")))
        await context.abort(_code(int(request)), "a\tstränge message\n%41")
        return b""

    async def special(self, request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNKNOWN, SPECIAL)
        return b""

    async def squeezed(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """The request, twice, compressed where the client takes that."""
        context.set_compression(grpc.Compression.Gzip)
        yield request
        yield request

    async def fail_late(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(grpc.StatusCode.DATA_LOSS, "lost the rest")


def _code(number: int) -> grpc.StatusCode:
    return next(code for code in grpc.StatusCode if code.value[0] == number)


@asynccontextmanager
async def running(
    service: Service, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[tuple[aio.Server, int]]:
    """The service on a loopback port, until the block ends; over TLS where there are credentials."""
    server = aio.server(options=UNLIMITED)
    server.add_generic_rpc_handlers((service,))
    if credentials is None:
        bound = server.add_insecure_port("127.0.0.1:0")
    else:
        bound = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield server, bound
    finally:
        await server.stop(None)
