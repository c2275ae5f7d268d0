"""What a backend declares about a model's batches, asked once for each inference path.

Triton's model configuration has `max_batch_size`: more items are refused, and 0 means that the model takes no
batch dimension at all, so that joined requests would be one wrong request. Text Embeddings Inference says in
its ``/info`` how many inputs it takes from one client at once (`max_client_batch_size`). Servers without that
endpoint answer 404, or UNIMPLEMENTED to a gRPC call, and have no known limit. Other protocols do not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.exchange import Call, Stream
from proxy.http2.grpc import http_status
from proxy.protobuf.framing import PREFIX, frame, message_at
from proxy.protobuf.message import Message, peek
from proxy.protobuf.wire import VARINT, encode_field, key, read_varint

if TYPE_CHECKING:
    from proxy.exchange import Upstream

__all__ = ("ask_batch_limit",)

_QUESTIONS = (
    (b"/infer", b"/config"),
    *[(path, b"/info") for path in (b"/embed", b"/embed_all", b"/embed_sparse", b"/predict", b"/rerank")],
)
_INFER_METHOD = b"/ModelInfer"
_KEPT = frozenset((b"host", b"authorization"))
_GRPC = (b"content-type", b"application/grpc")
_CONFIG = key(1)
_MOST_ITEMS = key(4, VARINT)
_LARGEST_CONFIG = 1 << 20


class _Config(msgspec.Struct):
    max_batch_size: int | None = None
    max_client_batch_size: int | None = None


_config = msgspec.json.Decoder(_Config).decode


async def ask_batch_limit(upstream: Upstream, call: Call) -> int | None:
    """Most items that the model of the inference `call` takes at once; 0: no batches; None: nothing is said.

    Raises what `upstream` raises. The question carries the caller's credentials, or it might not be answered.
    """
    question = _question(call)
    if question is None:
        return None
    question.scheme, question.is_grpc, question.idempotent = call.scheme, call.is_grpc, True
    reply = await upstream.exchange(question)
    body, trailers = reply.body, reply.trailers
    if isinstance(body, Stream):
        stream = body
        body = await _gathered(stream)
        trailers = stream.trailers
    if call.is_grpc:
        return (
            _limit_in_message(body) if http_status(reply.status, trailers or reply.headers) == 200 else None
        )
    return _limit_in_json(body) if reply.status == 200 else None


def _question(call: Call) -> Call | None:
    """The call that asks for the model's configuration."""
    path, _, _ = call.target.partition(b"?")
    kept = tuple(pair for pair in call.headers if pair[0].lower() in _KEPT)
    for inference, description in () if call.is_grpc else _QUESTIONS:
        if path.endswith(inference):
            return Call(b"GET", path.removesuffix(inference) + description, kept, deadline=call.deadline)
    if call.is_grpc and path.endswith(_INFER_METHOD) and isinstance(call.body, bytes):
        parts = [encode_field(key(place), peek(call.body, PREFIX, (place,))) for place in (1, 2)]
        target, headers = path.removesuffix(_INFER_METHOD) + b"/ModelConfig", (*kept, _GRPC)
        return Call(b"POST", target, headers, frame(b"".join(parts)), deadline=call.deadline)
    return None


def _limit_in_json(body: bytes) -> int | None:
    try:
        config = _config(body)
    except msgspec.DecodeError:
        return None
    limit = config.max_client_batch_size if config.max_batch_size is None else config.max_batch_size
    return limit if limit is None or limit >= 0 else None


def _limit_in_message(body: bytes) -> int | None:
    """Field 4 of a ``ModelConfig``, which is field 1 of the answer; 0 is not written."""
    try:
        answer = Message(body, message_at(body), len(body), frozenset((_CONFIG,)))
        ((at, end),) = answer.places(_CONFIG)
        limit = Message(body, at, end, frozenset((_MOST_ITEMS,))).value(_MOST_ITEMS)
        return read_varint(limit, 0, len(limit))[0] if limit else 0
    except ValueError:
        return None


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
