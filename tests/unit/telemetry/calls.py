"""Calls and their ends, as the telemetry tests need them."""

from __future__ import annotations

from proxy.exchange import Call
from proxy.telemetry.ended import Ended, Outcome

__all__ = ("a_call", "an_end")


def a_call(
    target: bytes = b"/v2/models/iris/infer", *, request_id: bytes = b"r-1", body: bytes = b"{}"
) -> Call:
    call = Call(b"POST", target, ((b"X-Request-Id", request_id),), body)
    call.peer = b"10.0.0.9"
    return call


def an_end(
    model: str = "iris",
    outcome: Outcome = "ok",
    status: int = 200,
    *,
    duration_s: float = 0.012,
    reason: str = "",
) -> Ended:
    return Ended("infer", "http", model, outcome, status, duration_s, 345, reason)
