"""What an answer says about its endpoint."""

from __future__ import annotations

import pytest

from proxy.exchange import Reply, Stream
from proxy.pooling.member import is_good
from proxy.pooling.verdict import grpc_status, verdict
from tests.support.recorded_flow import RecordedFlow


def answer(code: int | None, status: int = 200, *, is_trailers_only: bool = True) -> Reply:
    fields = () if code is None else ((b"grpc-status", b"%d" % code),)
    reply = Reply(status, fields if is_trailers_only else ())
    if not is_trailers_only:
        reply.trailers = fields
    return reply


@pytest.mark.parametrize("is_trailers_only", [True, False])
@pytest.mark.parametrize(
    ("code", "expected"), [(0, 200), (2, 500), (5, 404), (8, 429), (12, 501), (13, 500), (14, 503)]
)
def test_a_grpc_answer_is_judged_by_its_end(code: int, expected: int, is_trailers_only: bool) -> None:
    reply = answer(code, is_trailers_only=is_trailers_only)
    assert verdict(reply, is_grpc=True) == grpc_status(reply) == expected
    assert is_good(reply, is_grpc=True) == (expected < 500)


def test_an_http_answer_is_judged_by_its_status() -> None:
    assert verdict(answer(14), is_grpc=False) == 200
    assert verdict(answer(0, 503), is_grpc=False) == 503


def test_a_deadline_that_the_caller_gave_says_nothing() -> None:
    reply = answer(4)
    assert grpc_status(reply) == 504
    assert verdict(reply, is_grpc=True) is None
    assert not is_good(reply, is_grpc=True)


def test_a_gateway_that_gave_up_on_the_endpoint_does() -> None:
    assert verdict(answer(None, 504), is_grpc=True) == 504


def test_what_is_no_grpc_is_a_failure() -> None:
    assert verdict(answer(None), is_grpc=True) == 502


def test_an_answer_that_is_arriving_has_not_ended() -> None:
    reply = Reply(200, (), Stream(RecordedFlow()))
    assert verdict(reply, is_grpc=True) == 200
