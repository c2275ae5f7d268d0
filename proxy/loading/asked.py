"""Which model a call asks for, and having it ask for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec

from proxy.exchange import Stream
from proxy.protobuf.framing import frame, message_at
from proxy.protobuf.message import replaced

if TYPE_CHECKING:
    from proxy.exchange import Call

__all__ = ("model_in_body", "named_in", "redirect")

_BODY_BYTES = 8 << 20


class _Named(msgspec.Struct):
    model: str = ""


_decode_name = msgspec.json.Decoder(_Named).decode


async def model_in_body(call: Call) -> str:
    """The model that a JSON body (OpenAI, Ollama) names; empty when it names none."""
    if call.is_grpc:
        return ""  # no JSON, and a two-way stream must not be waited for
    if isinstance(call.body, Stream):
        call.claim_body()
        whole = await call.body.gather(_BODY_BYTES)
        if whole is None:
            return ""
        call.body = whole
    return named_in(call)


def named_in(call: Call) -> str:
    """The model that a JSON body in hand names; empty when none does."""
    if call.is_grpc or isinstance(call.body, Stream):
        return ""
    try:
        return _decode_name(call.body).model
    except msgspec.DecodeError:
        return ""


def redirect(call: Call, model: str, other: str, model_at: tuple[int, ...]) -> bool:
    """Make `call` ask for `other` in place of `model`; False when it cannot be done."""
    if call.is_grpc:
        return _redirect_message(call, other, model_at)
    path, mark, query = call.target.partition(b"?")
    segments = path.split(b"/")
    for index, segment in enumerate(segments):
        name, colon, verb = segment.partition(b":")
        if unquote(name.decode("latin-1")) == model:
            segments[index] = quote(other, safe="").encode() + colon + verb
            call.target = b"/".join(segments) + mark + query
            return True
    if isinstance(call.body, Stream):
        return False
    try:
        document: Any = msgspec.json.decode(call.body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    document["model"] = other
    call.body = msgspec.json.encode(document)
    return True


def _redirect_message(call: Call, other: str, model_at: tuple[int, ...]) -> bool:
    """The same for a gRPC message."""
    if isinstance(call.body, Stream) or not model_at:
        return False
    try:
        call.body = frame(replaced(call.body[message_at(call.body) :], model_at, other.encode()))
    except ValueError:
        return False
    return True
