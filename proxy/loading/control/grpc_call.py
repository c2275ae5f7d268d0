"""One unary gRPC call over whatever upstream speaks HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from proxy.errors import ProxyError
from proxy.exchange import Call, Stream, field
from proxy.loading.control.base import ControlError, names_memory

if TYPE_CHECKING:
    from proxy.exchange import Headers, Upstream
    from proxy.loading.actions import FailureKind

__all__ = ("GrpcClient", "GrpcError")

_HEADERS = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
_LARGEST_ANSWER = 16 << 20  # an index of a hundred thousand models; whoever sends more does not stop there
_KINDS: dict[int, FailureKind] = {4: "timeout", 5: "missing", 8: "memory", 14: "unreachable"}


class GrpcError(ControlError):
    """The call ended with a status other than OK."""

    def __init__(self, code: int, message: str) -> None:
        kind = "memory" if names_memory(message.encode()) else _KINDS.get(code, "refused")
        super().__init__(kind, f"status {code}: {message}")
        self.code = code


class GrpcClient:
    """Unary calls on `upstream`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def ask(self, path: str, message: bytes) -> bytes:
        """The answer's message; `path` is ``/package.Service/Method``. GrpcError, ControlError."""
        frame = b"\x00" + len(message).to_bytes(4, "big") + message
        call = Call(b"POST", path.encode(), _HEADERS, frame)
        call.is_grpc = True
        try:
            reply = await self._upstream.exchange(call)
            body, trailers = await _read(reply.body)
        except ProxyError as error:
            raise ControlError("unreachable", str(error)) from error
        fields = (*trailers, *reply.trailers, *reply.headers)
        status = field(fields, b"grpc-status")
        if reply.status != 200 or status is None:
            raise ControlError("unreachable", f"HTTP {reply.status} is no gRPC answer")
        if status != b"0":
            detail = field(fields, b"grpc-message") or b""
            raise GrpcError(int(status), unquote(detail.decode(errors="replace")))
        if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
            raise ControlError("unreachable", "the answer is not one plain message")
        return body[5:]


async def _read(body: bytes | Stream) -> tuple[bytes, Headers]:
    if not isinstance(body, Stream):
        return body, ()
    chunks: list[bytes] = []
    try:
        while chunk := await body.read():
            chunks.append(chunk)
            if body.delivered > _LARGEST_ANSWER:
                raise ControlError("unreachable", f"an answer of over {_LARGEST_ANSWER} bytes")
    finally:
        body.abandon()
    return b"".join(chunks), body.trailers
