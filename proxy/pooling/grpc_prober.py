"""Asks one gRPC endpoint how it is: ``grpc.health.v1``, or Open Inference's ``ServerReady`` where that is
missing.

A `Prober` whose question is a gRPC call on a channel of its own. A server that knows neither service but
speaks gRPC counts as healthy: it answered. With the path ``tcp`` a connection is enough.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.exchange import Call, Stream, field
from proxy.http2.blocks import BlockWriter
from proxy.http2.intake import ReadBuffer
from proxy.pooling.channel import Channel
from proxy.pooling.prober import Prober
from proxy.timing import Deadline

if TYPE_CHECKING:
    from proxy.exchange import Reply

__all__ = ("GrpcProber",)

_HEALTH: Final = b"/grpc.health.v1.Health/Check"
_READY: Final = b"/inference.GRPCInferenceService/ServerReady"
_EMPTY_MESSAGE: Final = bytes(5)
_PREFIX: Final = 5
_YES: Final = b"\x08\x01"
"""A message's first field is 1: `SERVING` of the one service, `ready` of the other."""
_OK: Final = b"0"
_UNIMPLEMENTED: Final = b"12"


class GrpcProber(Prober):
    """See the module's text and `Prober`; it is the owner of its probe's channel."""

    scheme = b"http"
    ping_s = 0.0  # a probe is bounded by its own time-out

    async def _ask(self) -> str:
        if self._url.startswith("https:"):
            self.scheme = b"https"
        channel, _ = await self._dialer.dial(self._channel, self._health.timeout_s)
        try:
            if self._health.policy.path == "tcp":
                return ""
            self.is_late = True
            why: str | None = None
            for path in (_HEALTH, _READY):
                why = _verdict(await self._call(channel, path))
                if why is not None:
                    break
            self.is_late = False
            return why or ""
        finally:
            channel.close()

    def _channel(self) -> Channel:
        self.writer = BlockWriter()
        self.buffer = ReadBuffer()
        return Channel(self)

    async def _call(self, channel: Channel, path: bytes) -> Reply:
        headers = ((b"host", self.authority), (b"content-type", b"application/grpc"))
        now = self.clock.now()
        call = Call(b"POST", path, headers, _EMPTY_MESSAGE, deadline=Deadline(now + self._health.timeout_s))
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        channel.send(call, now, answer)
        return await answer

    # ------------------------------------------------------------- Owner of the probe's channel
    def has_room(self, channel: Channel) -> None:
        """Of no interest: the channel is used for one probe."""

    def drains(self, channel: Channel) -> None:
        """Of no interest: the channel is closed after its probe."""


def _verdict(reply: Reply) -> str | None:
    """What is wrong, empty when nothing is, None when the server does not know the question."""
    if isinstance(reply.body, Stream):
        reply.body.abandon()
        return "a streamed answer to a health check"
    status = field(reply.trailers or reply.headers, b"grpc-status")
    if status == _UNIMPLEMENTED:
        return None
    if status != _OK:
        return f"grpc-status {status.decode()}" if status else f"no gRPC: status {reply.status}"
    return "" if reply.body[_PREFIX:].startswith(_YES) else "not serving"
