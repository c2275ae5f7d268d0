"""Events of a session with every part of a message by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.http2.events import DataReceived, RequestReceived, ResponseReceived, TrailersReceived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.http2.events import Event

__all__ = ("apart",)


def apart(events: Iterable[Event]) -> list[Event]:
    """The same events; what joined a head's is an event again."""
    parts: list[Event] = []
    for event in events:
        parts.append(event)
        if isinstance(event, RequestReceived | ResponseReceived) and (event.data or _has_trailers(event)):
            has_trailers = _has_trailers(event)
            if event.data:
                parts.append(
                    DataReceived(event.stream_id, [event.data], is_ended=event.is_ended and not has_trailers)
                )
            if isinstance(event, ResponseReceived) and has_trailers:
                parts.append(TrailersReceived(event.stream_id, event.trailers))
            event.data, event.is_ended = b"", False
    return parts


def _has_trailers(event: RequestReceived | ResponseReceived) -> bool:
    return isinstance(event, ResponseReceived) and bool(event.trailers)
