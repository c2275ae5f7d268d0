"""What of a request's body must be at hand before the call can go on: the name of its model, or all of it.

Called by the pipeline; it owns nothing and waits only for the client, within the call's deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from proxy.errors import DeadlineExceeded
from proxy.exchange import Stream
from proxy.protobuf.framing import PREFIX, size_of
from proxy.protobuf.message import peek
from proxy.routing.naming import MOST, is_worth_waiting_for, named
from proxy.routing.table import Match
from proxy.timing import NEVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.exchange import Call

__all__ = ("gather_body", "name_model")


async def name_model(call: Call, match: Match) -> Match:
    """`match` with the model that the body of `call` names; itself when it names none.

    A JSON body that is still arriving is gathered if it is small. A gRPC message is looked at as far as it
    has come, and left where it is. Raises `DeadlineExceeded`.
    """
    body = call.body
    if call.is_grpc:
        start = await _start(call, body) if isinstance(body, Stream) else body
        return Match(match.route, peek(start, PREFIX, match.route.model_at).decode(errors="replace"))
    if isinstance(body, Stream):
        whole = await _whole(call, body, MOST) if is_worth_waiting_for(call, body.length) else None
        if whole is None:
            return match
        call.body = body = whole
    return named(match, body)


async def gather_body(call: Call, most: int) -> None:
    """Have the body of `call` at hand, if it has no more than `most` bytes. Raises `DeadlineExceeded`.

    A gRPC call that goes on after one message is no unary one, and is not waited for.
    """
    body = call.body
    if not isinstance(body, Stream):
        return
    call.claim_body()
    if call.is_grpc:
        most = min(most, size_of(await _start(call, body)) or most)
    whole = await _whole(call, body, most)
    if whole is not None:
        call.body = whole


async def _start(call: Call, body: Stream) -> bytes:
    """What has come of `body`, once there is anything; it is left where it is."""
    async with _in_time(call):
        start = await body.read()
    if start:
        body.unread(start)
    return start


async def _whole(call: Call, body: Stream, most: int) -> bytes | None:
    async with _in_time(call):
        return await body.gather(most)


@contextlib.asynccontextmanager
async def _in_time(call: Call) -> AsyncIterator[None]:
    """Raises `DeadlineExceeded` when `call` takes too long to arrive."""
    try:
        async with asyncio.timeout_at(None if call.deadline == NEVER else call.deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed while the request was arriving") from None
