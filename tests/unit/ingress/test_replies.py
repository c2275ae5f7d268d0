"""Answers that the proxy makes itself."""

from __future__ import annotations

import json

import pytest

from proxy import errors
from proxy.errors import BatchError, MethodNotAllowed, Overloaded, ProxyError, Unauthorized
from proxy.ingress.replies import error_reply

LEAVES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, ProxyError)
    and not issubclass(kind, BatchError)  # never reaches a client in these words
    and kind.__init__ is ProxyError.__init__
]


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dialect", ["generic", "openai"])
def test_every_error_says_who_failed(kind: type[ProxyError], dialect: str) -> None:
    reply = error_reply(kind("why"), dialect)
    assert reply.status == kind.status
    assert reply.source == "proxy"
    assert f'details="{kind.reason}"'.encode() in (reply.header(b"proxy-status") or b"")
    assert isinstance(reply.body, bytes)
    error = json.loads(reply.body)["error"]
    assert (
        error == "why" if dialect == "generic" else error["message"] == "why" and error["code"] == kind.reason
    )


def test_what_a_status_requires() -> None:
    assert error_reply(Unauthorized()).header(b"www-authenticate") == b"Bearer"
    assert b"POST" in (error_reply(MethodNotAllowed()).header(b"allow") or b"")


@pytest.mark.parametrize(("span_s", "told"), [(None, None), (0.1, b"1"), (2.1, b"3")])
def test_retry_after_is_whole_seconds_and_never_none(span_s: float | None, told: bytes | None) -> None:
    assert error_reply(Overloaded(retry_after_s=span_s)).header(b"retry-after") == told
