"""Bodies on their way to the backend: framed, paced, broken off."""

from __future__ import annotations

import pytest

from proxy.errors import ClientGone, Reset
from proxy.exchange import Stream
from tests.support.one_connection import CHUNKED, HEAD, OwnerOfOne, post
from tests.support.pool_rig import settle


# ------------------------------------------------------------------ uploads
async def test_a_body_of_unknown_length_is_sent_in_chunks(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    await settle()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    body.end(((b"X-Sum", b"1"),))
    await settle()
    assert owner.transport.written.endswith(
        b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    owner.transport.send(HEAD + b"Content-Length: 0\r\n\r\n")
    assert waiter.result().status == 200
    assert owner.said == ["released"]


async def test_a_body_of_known_length_is_sent_as_it_is(owner: OwnerOfOne) -> None:
    body = Stream(None, 6)
    owner.send(post(body))
    body.feed(b"onetwo")
    body.end()
    await settle()
    assert owner.transport.written.endswith(b"Content-Length: 6\r\n\r\nonetwo")


async def test_a_slow_backend_pauses_the_upload(owner: OwnerOfOne) -> None:
    body = Stream(None)
    owner.send(post(body))
    owner.connection.pause_writing()
    body.feed(b"one")
    await settle()
    body.feed(b"two")
    await settle()
    assert b"two" not in owner.transport.written
    owner.connection.resume_writing()
    await settle()
    assert b"two" in owner.transport.written


async def test_writing_may_pause_without_an_upload(owner: OwnerOfOne) -> None:
    owner.send(post(b"{}"))
    owner.connection.pause_writing()
    owner.connection.resume_writing()
    assert owner.connection.is_open


async def test_an_upload_that_breaks_off_fails_the_call(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    body.feed(b"one")
    body.fail(ClientGone())
    await settle()
    with pytest.raises(ClientGone):
        waiter.result()
    assert owner.transport.is_closed, "a chunked body must not seem to end"
    assert owner.said == ["lost abandoned"]


async def test_an_early_answer_ends_the_upload(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    body.feed(b"one")
    await settle()
    owner.transport.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
    await settle()
    assert waiter.result().status == 413
    assert owner.said == ["lost last"]
    body.feed(b"two")
    assert body.buffered == 0, "nobody reads it any more"


async def test_answer_and_upload_may_overlap(owner: OwnerOfOne) -> None:
    sent = Stream(None)
    waiter = owner.send(post(sent))
    owner.transport.send(CHUNKED)
    answer = waiter.result().body
    assert isinstance(answer, Stream)
    for word in (b"one", b"two"):
        sent.feed(word)
        await settle()
        assert owner.transport.written.endswith(b"\r\n" + word + b"\r\n")
        owner.chunk(word)
        assert await answer.read() == word
    sent.end()
    await settle()
    owner.transport.send(b"0\r\n\r\n")
    assert await answer.read() == b""
    assert owner.said == ["streaming", "released"]


async def test_a_connection_that_breaks_leaves_an_untouched_body_to_the_caller(owner: OwnerOfOne) -> None:
    body = Stream(None)
    waiter = owner.send(post(body))
    owner.transport.hang_up()
    await settle()
    with pytest.raises(Reset):
        waiter.result()
    body.feed(b"one")
    assert body.read_nowait() == b"one"
