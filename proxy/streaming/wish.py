"""Whether a call asks for an event stream (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from proxy.exchange import Call

__all__ = ("asks_for_events",)


class _Wish(msgspec.Struct):
    stream: bool = False


_wish: Final = msgspec.json.Decoder(_Wish).decode


def asks_for_events(call: Call) -> bool:
    """Whether `call` wants an event stream: it accepts one, or its JSON body says ``"stream": true``.

    Ollama's own paths answer in lines of JSON, whatever is asked for; `generate_stream` always in events.
    """
    path = call.target.partition(b"?")[0]
    if path.startswith(b"/api/"):
        return False
    if path.endswith(b"/generate_stream"):
        return True
    accept = call.header(b"accept")
    if accept is not None and b"text/event-stream" in accept.lower():
        return True
    if not isinstance(call.body, bytes):
        return False
    try:
        return _wish(call.body).stream
    except msgspec.DecodeError:
        return False
