"""Which model a body names, where the path names none (pure).

Theory of operation
-------------------
A gRPC path names a method only: the model is a field of the message, at a place that the route knows.
OpenAI's paths are the same for every model: the name is the member ``model`` of the JSON body, and what an
operator says of a model, and its metrics, go by that name. A body that is at hand is decoded with everything
else skipped, which costs about a microsecond for each two kilobytes. One that is still arriving is worth
waiting for only when it says that it is small (`MOST`): its backend could not begin before the last byte
either. A larger one is passed on as it comes and goes by no name, and so does one of unknown length, whose
answer may begin before it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from proxy.routing.table import Match

if TYPE_CHECKING:
    from proxy.exchange import Call

__all__ = ("MOST", "is_named_in_body", "is_worth_waiting_for", "named")

MOST: Final = 1 << 20
_KINDS: Final = frozenset({"infer", "stream"})


class _Named(msgspec.Struct):
    model: str = ""


_decode: Final = msgspec.json.Decoder(_Named).decode


def is_named_in_body(call: Call, match: Match) -> bool:
    """Whether only the body can say which model `call` is for."""
    if match.model:
        return False
    return bool(match.route.model_at) if call.is_grpc else match.route.kind in _KINDS


def is_worth_waiting_for(call: Call, length: int | None) -> bool:
    """Whether a body of the declared `length` that is still arriving may be read here first.

    Not when the client waits for the backend's leave to send it.
    """
    return length is not None and length <= MOST and call.header(b"expect") is None


def named(match: Match, body: bytes) -> Match:
    """`match` with the model that `body` names; itself when it names none."""
    try:
        model = _decode(body).model
    except msgspec.DecodeError:
        return match
    return Match(match.route, model, match.version) if model else match
