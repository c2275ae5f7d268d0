"""How long a call may take: the tightest of what the client wishes and what the route allows (pure).

Theory of operation
-------------------
A client states a span (`X-Request-Timeout: 2s`, or a bare number of seconds as other proxies accept); from
the arrival it becomes an instant, and every wait below (queue, lease, first byte) is bounded by that one
instant. A wish can only shorten what the route allows, or a client could hold a slot for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.fields import parse_duration
from proxy.errors import BadRequest
from proxy.timing import Deadline

if TYPE_CHECKING:
    from proxy.exchange import Call

__all__ = ("tightest",)


def tightest(call: Call, now: float, timeout_s: float) -> Deadline:
    """The instant at which `call`, arrived at `now` on a route that allows `timeout_s`, is too late.

    Raises `BadRequest` when the client's wish cannot be read.
    """
    if call.timeout_wish:
        timeout_s = min(timeout_s, _parse(call.timeout_wish))
    return Deadline(min(call.deadline, now + timeout_s))


def _parse(value: bytes) -> float:
    text = value.decode("latin-1")
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else parse_duration(text)
    except ValueError:
        raise BadRequest("X-Request-Timeout must be a duration such as 2s or 500ms") from None
    return seconds
