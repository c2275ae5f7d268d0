"""Plain requests over HTTP/2: what enters the pipeline, and what the client gets."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from proxy.errors import Overloaded, Reset
from proxy.exchange import Call, Reply, Stream
from proxy.http2.errors import ErrorCode
from proxy.http2.events import GoawayReceived, StreamReset
from proxy.http2.limits import Limits
from proxy.ingress.policy import AuthPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules
from tests.integration.http2.conftest import read_all
from tests.support.waiting import PATIENCE_S, until
from tests.unit.http2.peers import WRITER

if TYPE_CHECKING:
    from tests.integration.http2.conftest import Listen, Stage

JSON = (b"content-type", b"application/json")


async def test_get(stage: Stage) -> None:
    async with stage.connect() as client:
        status, fields, body, _ = await client.answer(client.request(b"GET", b"/v2?x=%2F", ((b"x-a", b"1"),)))
    assert (status, fields[b"content-length"], body) == (200, b"0", b"")
    (call,) = stage.calls
    sent = dict(call.headers)
    assert fields[b"x-request-id"] == sent[b"X-Request-Id"]
    assert (fields[b"via"], sent[b"Via"]) == (b"1.1 pillion", b"2.0 pillion")
    assert b"date" in fields
    assert (call.method, call.target, call.body) == (b"GET", b"/v2?x=%2F", b"")
    assert (call.http_version, call.scheme, call.peer, call.is_grpc) == (20, b"http", b"127.0.0.1", False)
    assert call.headers[:2] == ((b"host", b"a"), (b"x-a", b"1"))
    assert sent[b"X-Forwarded-For"] == b"127.0.0.1"


async def test_the_last_of_those_that_were_read_together_is_known(stage: Stage) -> None:
    seen: list[bool] = []

    async def note(call: Call) -> Reply:
        seen.append(call.is_newest)
        return Reply(200, ())

    stage.answer = note
    async with stage.connect() as one, stage.connect() as other:
        for together in ((one, one, one), (one, other), (one,)):
            streams = [(client, client.request(b"GET", b"/v2")) for client in together]
            for client, stream_id in streams:
                await client.answer(stream_id)
    assert seen == [False, False, True, False, True, True]


async def test_a_small_body_of_known_length_arrives_whole(stage: Stage) -> None:
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", ((b"content-length", b"6"),), None)
        for piece in (b"ab", b"cd", b"ef"):
            client.session.send_data(stream_id, piece, end=piece == b"ef")
            client.flush()
            await asyncio.sleep(0)
        await client.answer(stream_id)
    assert stage.calls[0].body == b"abcdef"


async def test_trailers_say_no_more_than_a_head_may(stage: Stage) -> None:
    """A stranger's identity, and what would describe the message anew, come in by no other door."""

    async def echo(call: Call) -> Reply:
        assert isinstance(call.body, Stream)
        return Reply(200, (), call.body)

    stage.answer = echo
    dropped = (b"x-forwarded-for", b"forwarded", b"content_length", b"content-type", b"via", b"expect")
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", (), None)
        await until(lambda: bool(stage.calls))
        fields = (*((name, b"1") for name in dropped), (b"x-sum", b"1"))
        client.session.send_trailers(stream_id, WRITER.trailers(fields))
        client.flush()
        *_, trailers = await client.answer(stream_id)
    assert trailers == ((b"x-sum", b"1"),)


async def test_a_body_of_unknown_length_is_streamed_with_its_trailers(stage: Stage) -> None:
    async def echo(call: Call) -> Reply:
        assert isinstance(call.body, Stream)
        return Reply(200, (), call.body)

    stage.answer = echo
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", (), None)
        await until(lambda: bool(stage.calls))
        client.session.send_data(stream_id, b"hello")
        client.session.send_trailers(stream_id, WRITER.trailers(((b"x-sum", b"1"),)))
        client.flush()
        _, _, body, trailers = await client.answer(stream_id)
    assert (body, trailers) == (b"hello", ((b"x-sum", b"1"),))


async def test_a_large_body_both_ways(stage: Stage) -> None:
    async def echo(call: Call) -> Reply:
        return Reply(200, (), call.body)

    stage.answer = echo
    body = bytes(range(256)) * 8192
    async with stage.connect(Limits(stream_window=50_000)) as client:
        assert (await client.answer(client.request(b"POST", b"/", (), body)))[2] == body


async def test_head_has_a_length_and_no_body(stage: Stage) -> None:
    async def answer(call: Call) -> Reply:
        return Reply(200, (), declared_length=7)

    stage.answer = answer
    async with stage.connect() as client:
        _, fields, body, _ = await client.answer(client.request(b"HEAD", b"/"))
    assert (fields[b"content-length"], body) == (b"7", b"")


async def test_a_body_over_the_limit_is_refused_at_its_head(listen: Listen) -> None:
    stage = await listen(limits={"body": "1KiB"})
    async with stage.connect() as client:
        stream_id = client.request(b"POST", b"/", ((b"content-length", b"100000"),), None)
        status, fields, _body, _ = await client.answer(stream_id)
        assert (status, fields[b"proxy-status"][:7]) == (413, b"pillion")
        reset = (await client.read_until(lambda event: isinstance(event, StreamReset)))[-1]
        assert isinstance(reset, StreamReset)
        assert reset.code == ErrorCode.NO_ERROR
    assert not stage.calls


async def test_a_body_that_grows_over_the_limit(listen: Listen) -> None:
    stage = await listen(limits={"body": "1KiB"})
    stage.answer = read_all
    async with stage.connect() as client:
        status, *_ = await client.answer(client.request(b"POST", b"/", (), bytes(2000)))
    assert status == 413


KEY = b"a long and random key"
AUTH = {"keys": (hashlib.sha256(KEY).hexdigest(),)}


async def test_a_key_is_asked_for(listen: Listen) -> None:
    stage = await listen(auth=AUTH)
    async with stage.connect() as client:
        grpc = (b"content-type", b"application/grpc")
        assert (await client.answer(client.request(b"GET", b"/")))[0] == 401
        assert (await client.answer(client.request(b"POST", b"/", (), None)))[0] == 401
        assert (await client.answer(client.request(b"POST", b"/t.T/M", (grpc,))))[1][b"grpc-status"] == b"16"
        assert not stage.calls
        assert [error.status for error in stage.refused] == [401, 401, 401]
        shown = (b"authorization", b"Bearer " + KEY)
        assert (await client.answer(client.request(b"GET", b"/", (shown,))))[0] == 200
    (call,) = stage.calls
    assert call.header(b"authorization") is None
    assert call.identity == hashlib.sha256(KEY).digest()


async def test_a_revoked_key_ends_on_an_open_connection(listen: Listen) -> None:
    stage = await listen(auth=AUTH)
    shown = (b"authorization", b"Bearer " + KEY)
    async with stage.connect() as client:
        for _ in range(2):
            assert (await client.answer(client.request(b"GET", b"/", (shown,))))[0] == 200
        other = AuthPolicy(keys=(hashlib.sha256(b"another").hexdigest(),))
        stage.listener.renew(HeadRules(LimitPolicy(), auth=other))
        assert (await client.answer(client.request(b"GET", b"/", (shown,))))[0] == 401
        anew = (b"authorization", b"Bearer another")
        assert (await client.answer(client.request(b"GET", b"/", (anew,))))[0] == 200


async def test_strangers_may_not_say_who_they_are(stage: Stage) -> None:
    async with stage.connect() as client:
        forged = ((b"x-forwarded-for", b"10.0.0.1"), (b"x-remote-user", b"root"))
        await client.answer(client.request(b"GET", b"/", forged))
    (call,) = stage.calls
    assert call.header(b"x-forwarded-for") == b"127.0.0.1"
    assert call.header(b"x-remote-user") is None


async def test_too_many_connections(listen: Listen) -> None:
    stage = await listen(limits={"connections": 1})
    async with stage.connect() as client, stage.connect() as late:
        assert (await client.answer(client.request(b"GET", b"/")))[0] == 200
        late.flush()
        goaway = (await late.read_until(lambda event: isinstance(event, GoawayReceived)))[-1]
        assert getattr(goaway, "code", None) == ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(("target", "status"), [(b"/" + b"x" * 9000, 414), (b"/", 431)])
async def test_heads_over_the_limits(stage: Stage, target: bytes, status: int) -> None:
    async with stage.connect() as client:
        many = tuple((b"x-%d" % number, b"") for number in range(200)) if status == 431 else ()
        assert (await client.answer(client.request(b"GET", target, many)))[0] == status


async def test_spans_for_those_who_ask(stage: Stage) -> None:
    async with stage.connect() as client:
        _, fields, *_ = await client.answer(client.request(b"GET", b"/", ((b"pillion-debug", b"1"),)))
    assert fields[b"server-timing"].startswith(b"queue;dur=")


async def test_connect_is_not_allowed(stage: Stage) -> None:
    async with stage.connect() as client:
        block = WRITER.trailers(((b":method", b"CONNECT"), (b":authority", b"a:1")))
        stream_id = client.session.open(block)
        client.flush()
        assert (await client.answer(stream_id))[0] == 405
    assert not stage.calls


async def test_an_expectation_is_passed_on_and_its_answer_back(stage: Stage) -> None:
    async def read(call: Call) -> Reply:
        assert call.on_informational is not None
        assert isinstance(call.body, Stream)
        call.on_informational(100, ())
        return Reply(200, (), await call.body.read())

    stage.answer = read
    async with stage.connect() as client:
        headers = ((b"expect", b"100-continue"), (b"content-length", b"2"))
        stream_id = client.request(b"POST", b"/", headers, None)
        await client.read_until(lambda event: getattr(getattr(event, "head", None), "status", 0) == 100)
        client.session.send_data(stream_id, b"ok", end=True)
        client.flush()
        assert (await client.answer(stream_id))[0] == 200
    assert stage.calls[0].header(b"expect") == b"100-continue"


async def test_interim_answers_pass(stage: Stage) -> None:
    async def hint(call: Call) -> Reply:
        assert call.on_informational is not None
        call.on_informational(103, ((b"link", b"</a>"),))
        return Reply(200, ())

    stage.answer = hint
    async with stage.connect() as client:
        await client.answer(client.request(b"GET", b"/"))
    assert (client.interim.status, client.interim.headers) == (103, ((b"link", b"</a>"),))


async def test_own_errors_are_spelt_as_http(stage: Stage) -> None:
    async def shed(call: Call) -> Reply:
        raise Overloaded("too much", retry_after_s=2)

    stage.answer = shed
    async with stage.connect() as client:
        status, fields, body, _ = await client.answer(client.request(b"GET", b"/"))
    assert (status, fields[b"retry-after"], body) == (429, b"2", b'{"error":"too much"}')


async def test_own_errors_are_spelt_as_grpc(stage: Stage) -> None:
    async def shed(call: Call) -> Reply:
        raise Overloaded("too much")

    stage.answer = shed
    async with stage.connect() as client:
        headers = ((b"content-type", b"application/grpc"),)
        status, fields, body, _ = await client.answer(client.request(b"POST", b"/t.T/M", headers, bytes(5)))
    assert (status, fields[b"grpc-status"], fields[b"grpc-message"], body) == (200, b"8", b"too much", b"")


async def test_a_fault_inside_is_no_affair_of_the_clients(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(call: Call) -> Reply:
        raise ZeroDivisionError

    stage.answer = fail
    async with stage.connect() as client:
        assert (await client.answer(client.request(b"GET", b"/")))[0] == 500
    assert "a call failed inside the proxy" in caplog.text


@pytest.mark.parametrize("is_grpc", [True, False])
async def test_an_answer_that_breaks_off(stage: Stage, is_grpc: bool) -> None:
    async def answer(call: Call) -> Reply:
        body = Stream(None)
        body.feed(b"first")
        body.fail(Reset("gone"))
        return Reply(200, (), body)

    stage.answer = answer
    async with stage.connect() as client:
        headers = ((b"content-type", b"application/grpc"),) if is_grpc else ()
        stream_id = client.request(b"POST", b"/t.T/M", headers)
        if is_grpc:
            _, _, body, trailers = await client.answer(stream_id)
            assert (body, trailers) == (b"first", ((b"grpc-status", b"14"), (b"grpc-message", b"gone")))
        else:
            events = await client.read_until(lambda event: isinstance(event, StreamReset))
            assert getattr(events[-1], "code", None) == ErrorCode.INTERNAL_ERROR


async def test_a_client_that_leaves_cancels_its_call(stage: Stage) -> None:
    cancelled = asyncio.Event()

    async def wait(call: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    stage.answer = wait
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/")
        await until(lambda: bool(stage.calls))
        client.session.reset(stream_id)
        client.flush()
        async with asyncio.timeout(PATIENCE_S):
            await cancelled.wait()
        cancelled.clear()
        client.request(b"GET", b"/")
        await until(lambda: len(stage.calls) == 2)
    async with asyncio.timeout(PATIENCE_S):
        await cancelled.wait()


async def test_a_call_cancelled_before_it_began_leaves_nothing(stage: Stage) -> None:
    async with stage.connect() as client:
        client.session.open_whole(WRITER.request(b"GET", b"http", b"/", ((b"host", b"a"),)), b"")
        client.session.reset(1)
        client.flush()
        assert (await client.answer(client.request(b"GET", b"/")))[0] == 200
        (link,) = stage.listener._links
        await until(lambda: not link._calls)
    assert len(stage.calls) == 1


async def test_a_client_that_takes_nothing_loses_its_stream(listen: Listen) -> None:
    stage = await listen(timeouts={"write_stall": "100ms"})

    async def large(call: Call) -> Reply:
        return Reply(200, (), bytes(200_000))

    stage.answer = large
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        async with asyncio.timeout(PATIENCE_S):
            while not any(isinstance(event, StreamReset) for event in client.events):
                client.events += client.session.receive(await client.reader.read(65_536), now=0.0)
        client.flush()


async def test_draining_lets_calls_finish(stage: Stage) -> None:
    release = asyncio.Event()

    async def wait(call: Call) -> Reply:
        await release.wait()
        return Reply(200, (), b"done")

    stage.answer = wait
    async with stage.connect() as client:
        stream_id = client.request(b"GET", b"/")
        await until(lambda: bool(stage.calls))
        draining = asyncio.create_task(stage.listener.drain(0.0))  # noqa: TID251  the test owns it
        await client.read_until(lambda event: isinstance(event, GoawayReceived) and event.last_stream_id == 1)
        release.set()
        assert (await client.answer(stream_id))[2] == b"done"
        assert await client.reader.read() == b""
        async with asyncio.timeout(PATIENCE_S):
            await draining


async def test_stopping_breaks_what_is_left(stage: Stage) -> None:
    async def wait(call: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    stage.answer = wait
    async with stage.connect() as client:
        client.request(b"GET", b"/")
        await until(lambda: bool(stage.calls))
        await stage.listener.stop()
        with pytest.raises((AssertionError, ConnectionError)):
            await client.answer(1)
