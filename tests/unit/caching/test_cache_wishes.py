"""Documents in pieces, and what a client's own Cache-Control asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Call, Reply, Stream
from tests.support.batching import JSON_FIELDS, predict_call
from tests.support.cache_bench import Bench, demanding, streaming, uploaded
from tests.support.caching import policy, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.caching.policy import CachePolicy


@pytest.mark.parametrize("answer", [streaming(), streaming(b"text/plain", 21)])
async def test_a_document_in_pieces_is_kept(answer: Callable[[Call], Reply]) -> None:
    bench = Bench(answer)
    await bench.ask(predict_call(1.5))
    reply = await bench.ask(predict_call(1.5))
    assert (reply.body, status_of(reply)) == (b'{"predictions":[3.0]}', "hit; ttl=600")


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (streaming(b"text/event-stream"), policy()),
        (streaming(), policy(entry=16)),
        (streaming(b"x/y", 21), policy(entry=16)),
    ],
)
async def test_a_stream_is_passed_on_as_it_comes(answer: Callable[[Call], Reply], rule: CachePolicy) -> None:
    bench = Bench(answer, rule)
    reply = await bench.ask(predict_call(1.5))
    assert status_of(reply) == "fwd=uri-miss; detail=stream"
    assert isinstance(reply.body, Stream)
    assert await reply.body.read() == b'{"predictions":[3.0]}'


async def test_a_question_may_come_in_pieces() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    assert status_of(await bench.ask(uploaded(b'{"instances":', b"[1.5]}"))) == "hit; ttl=600"


async def test_a_very_large_question_is_passed_on() -> None:
    seen = []

    def relay(call: Call) -> Reply:
        seen.append(call.body)
        return Reply(200, JSON_FIELDS, b"{}")

    bench = Bench(relay)
    reply = await bench.ask(uploaded(*[bytes(300_000)] * 4))
    assert status_of(reply) == "fwd=bypass; detail=large_body"
    assert isinstance(seen[0], Stream)


async def test_no_cache_asks_the_backend_and_keeps_what_it_says() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.clock.advance(100.0)
    assert status_of(await bench.ask(demanding(b"no-cache"))) == "fwd=request; stored"
    assert status_of(await bench.ask(predict_call(1.5))) == "hit; ttl=600"


async def test_an_answer_that_is_too_old_for_the_client_is_asked_anew() -> None:
    bench = Bench()
    await bench.ask(predict_call(1.5))
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(demanding(b"max-age=10"))) == "hit; ttl=590"
    assert status_of(await bench.ask(demanding(b"min-fresh=590"))) == "fwd=uri-miss; stored"
    bench.clock.advance(10.0)
    assert status_of(await bench.ask(demanding(b"max-age=9"))) == "fwd=uri-miss; stored"


async def test_only_if_cached_never_reaches_the_backend() -> None:
    bench = Bench()
    reply = await bench.ask(demanding(b"only-if-cached"))
    assert (reply.status, status_of(reply)) == (504, "fwd=miss; detail=only_if_cached")
    await bench.ask(predict_call(1.5))
    assert (await bench.ask(demanding(b"only-if-cached"))).status == 200
    special = demanding(b"only-if-cached")
    special.headers += ((b"Range", b"bytes=0-1"),)
    assert (await bench.ask(special)).status == 504
    assert len(bench.upstream.calls) == 1
