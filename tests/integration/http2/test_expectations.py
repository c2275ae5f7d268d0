"""What a client may expect over HTTP/2 is what it may expect over HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.http2.conftest import Stage


async def test_an_unknown_expectation_is_refused(stage: Stage) -> None:
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/", ((b"expect", b"bogus"),))
        assert (await client.answer(stream_id))[0] == 417
    assert not stage.calls


async def test_an_expectation_without_a_body_is_not_passed_on(stage: Stage) -> None:
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/", ((b"expect", b"100-Continue"),))
        assert (await client.answer(stream_id))[0] == 200
    assert stage.calls[0].header(b"expect") is None
