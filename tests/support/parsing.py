"""A request parser of a listener's rules."""

from __future__ import annotations

from proxy.exchange import Ledger
from proxy.ingress.parser import Arrival, RequestParser
from proxy.ingress.policy import ForwardingPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules
from tests.support.recorded_flow import RecordedFlow

__all__ = (
    "OURS",
    "POST",
    "one",
    "parser",
)


def parser(**limits: int) -> RequestParser:
    policy = LimitPolicy.model_construct(**{**LimitPolicy().__dict__, **limits})
    rules = HeadRules(policy, forwarding=ForwardingPolicy(via="off"))
    hop = rules.hop(b"192.0.2.1", scheme=b"http", port=0)
    return RequestParser(
        rules, hop, RecordedFlow(), ledger=Ledger(1 << 30), new_ids=lambda: (b"a" * 32, b"b" * 16)
    )


OURS = (
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"h"),
    (b"Forwarded", b'for=192.0.2.1;host="h";proto=http'),
    (b"X-Request-Id", b"a" * 32),
    (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00"),
)


def one(data: bytes) -> Arrival:
    (arrival,) = parser().feed(data)
    return arrival


POST = b"POST /v1/models/m:predict?x=%2F HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 3\r\n\r\nabc"
