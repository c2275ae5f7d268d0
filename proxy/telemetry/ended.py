"""How a call ended: the one record that metrics, the access log and the list of recent errors are fed with.

Every call ends in exactly one `Ended`, whatever happened to it. The outcome says whose affair it was, so
that an operator can alert on the backend's failures and on the proxy's own without being woken by clients
that send rubbish:

* the backend answered: below 400 `ok`, below 500 `client_error`, 504 `timeout`, otherwise `upstream_error`;
* Pillion answered: the error's own class decides. A shed call is `shed`, except that a deadline which passed
  is a `timeout`; a client that left is `cancelled`; anything that no class foresaw is `proxy_error`.

An unknown route counts as `client_error`: it is the client who asked for something that is not there.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from proxy.errors import (
    ClientGone,
    ConnectTimeout,
    DeadlineExceeded,
    DownstreamError,
    ProxyError,
    ReadTimeout,
    RouteNotFound,
    Shed,
    SplitMismatch,
    UpstreamError,
)

__all__ = ("OUTCOMES", "SHED_REASONS", "Ended", "Outcome", "outcome_of_error", "outcome_of_status")

Outcome = Literal["ok", "client_error", "upstream_error", "timeout", "shed", "cancelled", "proxy_error"]

OUTCOMES: tuple[Outcome, ...] = (
    "ok",
    "client_error",
    "upstream_error",
    "timeout",
    "shed",
    "cancelled",
    "proxy_error",
)

SHED_REASONS = frozenset(kind.reason for kind in Shed.__subclasses__())
"""Why a call was refused to protect the others; a passed deadline is one whatever its outcome."""

# First match wins, so a leaf stands before its base.
_BY_CLASS: tuple[tuple[tuple[type[BaseException], ...], Outcome], ...] = (
    ((ClientGone,), "cancelled"),
    ((DeadlineExceeded, ReadTimeout, ConnectTimeout), "timeout"),
    ((DownstreamError, RouteNotFound), "client_error"),
    ((Shed,), "shed"),
    ((UpstreamError, SplitMismatch), "upstream_error"),
)


class Ended(msgspec.Struct, frozen=True, gc=False):
    """One call's end. `model` and `route` are empty where the call had none.

    `status` is what the client was sent (499 when it had left). `duration_s` runs from the request's head
    to the last byte of the answer, in seconds; `bytes_out` counts body bytes sent. `reason` is the
    `ProxyError` slug when Pillion made the answer, else empty. `ended_by` is who broke the call off
    (``client``, ``upstream`` or ``proxy``), empty when its answer was whole.
    """

    route: str
    protocol: str
    model: str
    outcome: Outcome
    status: int
    duration_s: float
    bytes_out: int = 0
    reason: str = ""
    ended_by: str = ""


def outcome_of_status(status: int) -> Outcome:
    """The outcome of a call that the backend answered with `status`."""
    if status < 400:
        return "ok"
    if status < 500:
        return "client_error"
    return "timeout" if status == 504 else "upstream_error"


def outcome_of_error(error: BaseException) -> Outcome:
    """The outcome of a call that ended in `error`; what is no `ProxyError` is the proxy's own fault."""
    if isinstance(error, ProxyError):
        for classes, outcome in _BY_CLASS:
            if isinstance(error, classes):
                return outcome
    return "proxy_error"
