"""The running proxy under spoilt bytes: the backend sees a beginning of what h11 finds in them, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given, settings

from tests.integration.http.conformance import Backend
from tests.property.requests import spoilt
from tests.property.test_request_reader import read_by_h11
from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import PATIENCE_S
from tests.support.wire import RawMessage, response

if TYPE_CHECKING:
    from tests.property.test_request_reader import Message


async def _play(sent: bytes) -> tuple[list[RawMessage], list[int]]:
    """What the backend got, and the statuses that the client got, in order."""
    statuses: list[int] = []
    async with (
        Backend([response(b"ok")]) as backend,
        stage(backend.url) as front,
        RawClient(front.url) as client,
    ):
        await client.send(sent)
        client.half_close()
        try:
            while True:
                statuses.append((await client.receive()).status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        async with asyncio.timeout(PATIENCE_S):
            while not front.is_at_rest:  # noqa: ASYNC110  there is no event for what is no longer there
                await asyncio.sleep(0)
        return backend.requests, statuses


def _as_sent(message: RawMessage) -> Message:
    method, target, _ = message.start.split(b" ")
    return method, target, message.body


@settings(deadline=None)
@given(spoilt())
def test_the_backend_sees_what_was_sent(sent: bytes) -> None:
    seen, statuses = asyncio.run(_play(sent))
    theirs = read_by_h11(sent)
    assert [_as_sent(message) for message in seen] == theirs[: len(seen)]
    assert statuses.count(200) == len(seen)
    assert all(status == 200 for status in statuses[: len(seen)])
    assert len(statuses) <= len(seen) + 1, "an error is the last answer"
