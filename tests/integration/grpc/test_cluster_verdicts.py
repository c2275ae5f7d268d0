"""gRPC endpoints that answer, but not well: their statuses count as HTTP's do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING

import pytest

from proxy.errors import Reset, StreamReset
from proxy.exchange import Call, Reply
from proxy.http2.errors import ErrorCode
from proxy.http2.limits import Limits
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import LoopClock
from tests.integration.grpc.inference_rig import begin
from tests.support.http2_backend import WRITER, Backend, Connection
from tests.support.pool_events import RecordedEvents
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEADERS = ((b"host", b"a"), (b"content-type", b"application/grpc"))
CALLS = 40


def refusing(code: int, *more: tuple[bytes, bytes]) -> Callable[[Connection, int], None]:
    """A backend that answers every call with the gRPC status `code` and nothing else."""
    fields = ((b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % code), *more)

    def respond(connection: Connection, stream_id: int) -> None:
        connection.session.send_headers(stream_id, WRITER.response(200, fields), end=True)

    return respond


def never_looking(connection: Connection, stream_id: int) -> None:
    connection.session.reset(stream_id, ErrorCode.REFUSED_STREAM)


def breaking_off(connection: Connection, stream_id: int) -> None:
    connection.session.reset(stream_id, ErrorCode.INTERNAL_ERROR)


def made(*, idempotent: bool = True) -> Call:
    call = Call(b"POST", b"/t.T/M", HEADERS, b"hello")
    call.is_grpc, call.idempotent = True, idempotent
    return call


class Rig:
    """A cluster of two endpoints: one that misbehaves by `respond`, and one that echoes."""

    def __init__(
        self, respond: Callable[[Connection, int], None], *, streams: int = 1000, **policy: object
    ) -> None:
        self.bad, self.good = Backend(Limits(streams=streams)), Backend()
        self.bad.respond = respond
        self.draw: float | None = None
        self._random = Random(11).random
        self.events = RecordedEvents()
        self.cluster: Cluster
        self._policy = UpstreamPolicy.model_validate(
            {"pool": {"grpc": {"min": 1}}, "health": {"every": "0s"}} | policy
        )

    @asynccontextmanager
    async def running(self, *, is_alone: bool = False) -> AsyncIterator[Rig]:
        async with self.bad.running(), self.good.running():
            backends = [self.bad] if is_alone else [self.bad, self.good]
            endpoints = [parse_endpoint(f"http://127.0.0.1:{backend.port}") for backend in backends]
            self.cluster = Cluster(
                "model",
                endpoints,
                self._policy,
                LoopClock(),
                events=self.events,
                protocol="grpc",
                random=lambda: self._random() if self.draw is None else self.draw,
            )
            try:
                yield self
            finally:
                await self.cluster.stop()

    async def statuses(self, *, idempotent: bool = True) -> set[bytes]:
        """What many calls, one after the other, end with."""
        replies = [await self.ask(idempotent=idempotent) for _ in range(CALLS)]
        return {dict(reply.trailers or reply.headers)[b"grpc-status"] for reply in replies}

    async def ask(self, *, idempotent: bool = True) -> Reply:
        return await self.cluster.exchange(made(idempotent=idempotent))

    @property
    def ejected(self) -> list[object]:
        return [state["ejected"] for state in self.cluster.snapshot()]


async def test_unavailability_is_retried_elsewhere_and_ejects() -> None:
    async with Rig(refusing(14)).running() as rig:
        assert await rig.statuses() == {b"0"}
        assert rig.ejected == [True, False]
        assert rig.events.statuses == {200: CALLS, 503: 5}
        assert rig.events.counts["retry ok"] == 5


async def test_calls_on_open_channels_are_counted() -> None:
    async with Rig(Connection.answer).running(is_alone=True) as rig:
        await rig.statuses()
        assert rig.events.counts["reused"] == CALLS - 1
        assert rig.events.counts["connected ok"] == 1


async def test_what_is_not_idempotent_is_not_repeated_but_counts() -> None:
    async with Rig(refusing(14)).running() as rig:
        assert await rig.statuses(idempotent=False) == {b"0", b"14"}
        assert rig.ejected == [True, False]
        assert not rig.events.counts["retried"]


async def test_internal_errors_eject_but_are_answers() -> None:
    async with Rig(refusing(13)).running() as rig:
        assert await rig.statuses() == {b"0", b"13"}
        assert rig.ejected == [True, False]


@pytest.mark.parametrize("is_alone", [False, True])
async def test_calls_that_are_broken_off_eject_where_another_could_do_better(is_alone: bool) -> None:
    async with Rig(breaking_off).running(is_alone=is_alone) as rig:
        for _ in range(CALLS):
            with suppress(StreamReset):
                await rig.ask()
        assert rig.ejected == [not is_alone, False][: len(rig.ejected)]


@pytest.mark.parametrize("code", [3, 4, 5, 8, 12])
async def test_the_callers_own_doing_is_no_failure(code: int) -> None:
    async with Rig(refusing(code)).running() as rig:
        assert await rig.statuses() == {b"0", b"%d" % code}
        assert rig.ejected == [False, False]
        assert not rig.events.counts["retried"]


async def test_the_only_endpoint_is_asked_again_after_the_span_that_it_names() -> None:
    pushback = (b"grpc-retry-pushback-ms", b"1")
    async with Rig(refusing(14, pushback)).running(is_alone=True) as rig:
        assert (await rig.ask()).status == 200
        assert rig.events.statuses == {503: 2}
        assert rig.ejected == [False]


async def test_push_back_for_ever_is_respected() -> None:
    pushback = (b"grpc-retry-pushback-ms", b"-1")
    async with Rig(refusing(14, pushback)).running(is_alone=True) as rig:
        await rig.ask()
        assert rig.events.statuses == {503: 1}


async def test_a_call_that_kills_is_executed_once_more_than_there_are_attempts() -> None:
    executed = 0

    def die(connection: Connection, _stream_id: int) -> None:
        nonlocal executed
        executed += 1
        connection.transport.abort()

    async with Rig(Connection.answer).running() as rig:
        await rig.statuses()
        rig.bad.respond = rig.good.respond = die
        with pytest.raises(Reset):
            await rig.ask()
        assert executed == 3


async def test_a_call_that_one_endpoint_never_looks_at_goes_to_the_other() -> None:
    async with Rig(never_looking).running() as rig:
        for _ in range(4):
            assert (await rig.ask(idempotent=False)).body == b"hello"


class Held:
    """Keeps its calls waiting until told to answer them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Connection, int]] = []

    def __call__(self, connection: Connection, stream_id: int) -> None:
        self.calls.append((connection, stream_id))

    def release(self) -> None:
        for connection, stream_id in self.calls:
            connection.answer(stream_id)
        self.calls.clear()


HEDGE = {"mode": "p95", "share": "100%"}
NEVER = {"consecutive": 0}


async def test_a_copy_that_fails_does_not_beat_a_slow_answer() -> None:
    async with Rig(Connection.answer, hedge=HEDGE, eject=NEVER).running() as rig:
        await rig.statuses()
        before = rig.events.counts["hedged"]  # on a busy machine some of those were slow
        slow = rig.good.respond = Held()
        rig.bad.respond = refusing(14)
        rig.draw = 0.9  # the good one
        call = begin(rig.ask())
        await until(lambda: bool(slow.calls) and rig.events.statuses[503] == 1)  # the copy has failed
        slow.release()
        assert (await call).body == b"hello"
        assert rig.events.counts["hedged"] == before + 1


async def test_a_copy_for_which_there_is_no_room_does_not_end_the_call() -> None:
    pool = {"grpc": {"min": 1, "max": 1, "queue": 1}}
    async with Rig(Connection.answer, streams=1, hedge=HEDGE, eject=NEVER, pool=pool).running() as rig:
        await rig.statuses()
        before = rig.events.counts["hedged"]
        slow, full = Held(), Held()
        rig.good.respond, rig.bad.respond = slow, full
        crowded = rig.cluster._members[0]
        others = [begin(crowded.attempt(made())), begin(crowded.attempt(made()))]
        await until(lambda: bool(full.calls) and crowded.pool.waiting == 1)
        rig.draw = 0.9  # the good one
        call = begin(rig.ask())
        await until(lambda: bool(slow.calls) and rig.events.counts["hedged"] > before)
        await asyncio.sleep(0)  # the copy is refused, or begins to wait
        slow.release()
        assert (await call).body == b"hello"
        for other in others:
            await until(lambda: bool(full.calls))
            full.release()
            await other
