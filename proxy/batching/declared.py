"""What a backend declares about a model's batches, asked once for each inference path.

Triton's model configuration has `max_batch_size`: more items are refused, and 0 means that the model takes no
batch dimension at all, so that joined requests would be one wrong request. Servers without that endpoint
answer 404 and have no known limit. Other protocols do not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.exchange import Call, Stream

if TYPE_CHECKING:
    from proxy.exchange import Upstream

__all__ = ("ask_batch_limit",)

_INFER = b"/infer"
_LARGEST_CONFIG = 1 << 20


class _Config(msgspec.Struct):
    max_batch_size: int | None = None


_config = msgspec.json.Decoder(_Config).decode


async def ask_batch_limit(upstream: Upstream, call: Call) -> int | None:
    """Most items that the model of the inference `call` takes at once; 0: no batches; None: nothing is said.

    Raises what `upstream` raises. The question carries the caller's credentials, or it might not be answered.
    """
    path, _, _ = call.target.partition(b"?")
    if call.is_grpc or not path.endswith(_INFER):
        return None
    kept = tuple(pair for pair in call.headers if pair[0].lower() in {b"host", b"authorization"})
    question = Call(b"GET", path.removesuffix(_INFER) + b"/config", kept, deadline=call.deadline)
    question.scheme, question.idempotent = call.scheme, True
    reply = await upstream.exchange(question)
    body = reply.body
    if isinstance(body, Stream):
        body = await _gathered(body)
    if reply.status != 200:
        return None
    try:
        limit = _config(body).max_batch_size
    except msgspec.DecodeError:
        return None
    return limit if limit is None or limit >= 0 else None


async def _gathered(body: Stream) -> bytes:
    """The whole of `body`, or nothing when it is too long to be a model's configuration."""
    chunks, size = [], 0
    try:
        while chunk := await body.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST_CONFIG:
                return b""
    finally:
        body.abandon()
    return b"".join(chunks)
