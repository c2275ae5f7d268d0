"""What a hostile client cannot make the proxy say or write."""

from __future__ import annotations

import pytest

from tests.integration.http.conformance import Backend
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.wire import response

SECRET = b"s3cr3t-token"

MALFORMED = [
    b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization " + SECRET + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + SECRET + b"\x00\r\n\r\n",
    b"GET /" + SECRET + b"\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
    SECRET + b" / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + SECRET + b"@h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: " + SECRET + b"\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_nothing_of_a_malformed_request_is_repeated(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Backend([response(b"ok")]) as backend,
        stage(backend.url) as front,
        RawClient(front.url) as client,
    ):
        await client.send(sent)
        said = await client.read_to_end()
    assert said.startswith(b"HTTP/1.1 ")
    assert SECRET not in said
    assert SECRET.decode() not in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_flood_of_malformed_requests_writes_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with Backend([response(b"ok")]) as backend, stage(backend.url) as front:
        for _ in range(30):
            async with RawClient(front.url) as client:
                await client.send(b"\x1b[31mred\x1b[0m / HTTP/1.1\r\n\r\n")
                await client.read_to_end()
    assert len([record for record in caplog.records if "bad_request" in record.getMessage()]) <= 2
    assert "\x1b" not in caplog.text
