"""Serves REST calls of an upstream that speaks gRPC only.

Owned by the application; it has no state. It waits for a body that is still arriving, and for whoever carries
the gRPC call, which may be a lane: calls that came by REST and calls that came by gRPC are merged alike. It
ends with its call; a caller who leaves cancels both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.bridging.encodings import MOST
from proxy.bridging.translation import metadata, rest_answer, translate
from proxy.errors import BadReply, BodyTooLarge
from proxy.exchange import Call, Reply, Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.bridging.translation import Translation
    from proxy.exchange import Headers

__all__ = ("as_grpc", "bridge")

_MOST_ANSWER: Final = 256 << 20


async def bridge(call: Call, forward: Callable[[Call], Awaitable[Reply]]) -> Reply:
    """The REST answer to `call`, whose gRPC form `forward` answers; raises `ProxyError`."""
    translation, inner = as_grpc(call, await _body_of(call))
    try:
        reply = await forward(inner)
        body, trailers = await _whole(reply)
    finally:
        inner.account_to(call)
    answer = rest_answer(translation, reply.status, reply.headers, body, trailers)
    return Reply(answer.status, answer.headers, answer.body, source=reply.source)


def as_grpc(call: Call, body: bytes) -> tuple[Translation, Call]:
    """The gRPC form of `call`, whose body is `body`, and what its answer is to be made of; raises
    `ProxyError`."""
    translation = translate(call.method, call.target, body, call.headers)
    inner = Call(b"POST", translation.path, metadata(call.headers), translation.body, deadline=call.deadline)
    inner.act_for(call)
    inner.is_grpc = True
    return translation, inner


async def _body_of(call: Call) -> bytes:
    body = call.body
    if not isinstance(body, Stream):
        return body
    call.claim_body()
    whole = await body.gather(MOST)
    if whole is None:
        raise BodyTooLarge("the request is too large to be translated to gRPC")
    return whole


async def _whole(reply: Reply) -> tuple[bytes, Headers]:
    """The answer's body and trailers."""
    body = reply.body
    if not isinstance(body, Stream):
        return body, reply.trailers
    chunks, size = [], 0
    try:
        while chunk := await body.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_ANSWER:
                raise BadReply("the answer is too large to be translated from gRPC")
    finally:
        body.abandon()
    return b"".join(chunks), body.trailers
