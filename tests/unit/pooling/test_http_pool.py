from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from proxy.errors import (
    BadReply,
    ConnectFailed,
    DeadlineExceeded,
    LeaseTimeout,
    NoHealthyEndpoint,
    QueueFull,
    ReaderStalled,
    ReadTimeout,
    Reset,
)
from proxy.exchange import Call, Stream
from proxy.pooling.idle_time import REST_S
from tests.support.pool_rig import PoolRig, settle

Rig = Callable[..., PoolRig]

TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made: list[PoolRig] = []

    def make(policy: dict[str, object] | None = None, **more: object) -> PoolRig:
        made.append(PoolRig(policy, **more))
        return made[-1]

    yield make
    for one in made:
        await one.close()


# ------------------------------------------------------------------ one call
async def test_a_call_gets_its_answer(rig: Rig) -> None:
    pool = rig()
    task = await pool.start(b"/infer")
    assert pool.state == (0, 1, 0, 0)
    pool.asked[0].answer()
    await settle()
    reply = task.result()
    assert (reply.status, reply.body) == (200, b"/infer")
    assert pool.state == (1, 0, 0, 0)
    assert pool.events.statuses == {200: 1}
    assert pool.events.counts == {"connected ok": 1, "waited": 1}


async def test_a_crowd_of_long_calls_is_dialed_for_to_the_last(rig: Rig) -> None:
    pool = rig()
    for _ in range(30):
        pool.begin(pool.call())
    await settle()
    assert pool.state == (0, 30, 0, 0), "no more than eight dials at once, but as many as calls wait"


async def test_the_spans_of_a_call_are_filled_in(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    call = Call(b"GET", b"/", ())
    task = pool.begin(call)
    await pool.wait(0.25)
    pool.dialer.accept()
    await settle()
    await pool.wait(0.5)
    pool.asked[0].answer()
    await settle()
    task.result()
    assert call.pool_s == pytest.approx(0.25)
    assert call.upstream_s == pytest.approx(0.5)


async def test_a_connection_is_reused(rig: Rig) -> None:
    pool = rig()
    [transport] = await pool.season()
    before = pool.events.counts["reused"]
    await pool.start(b"/again")
    assert transport.unanswered == [b"/again"]
    assert pool.events.counts["reused"] == before + 1


async def test_a_backend_is_trusted_only_after_a_rest(rig: Rig) -> None:
    pool = rig()
    await pool.start()
    first = pool.asked[0]
    first.answer()
    await pool.start()
    assert not first.unanswered, "it might be closing"
    pool.asked[0].answer()
    await pool.wait(REST_S)
    await pool.start()
    assert first.unanswered
    first.answer()


async def test_an_answer_may_close_the_connection(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].answer(b"Connection: close")
    await settle()
    assert task.result().status == 200
    assert pool.state == (0, 0, 0, 0)
    assert pool.events.counts["closed last"] == 1


# ------------------------------------------------------------------ waiting
async def test_a_freed_connection_goes_to_who_has_waited_longest(rig: Rig) -> None:
    pool = rig({"max": 1})
    await pool.season()
    await pool.start(b"/1")
    second, third = await pool.start(b"/2"), await pool.start(b"/3")
    assert pool.state == (0, 1, 0, 2)
    transport = pool.asked[0]
    transport.answer()
    await settle()
    assert transport.unanswered == [b"/2"]
    transport.answer()
    await settle()
    assert transport.unanswered == [b"/3"]
    transport.answer()
    await settle()
    assert (second.result().body, third.result().body) == (b"/2", b"/3")


async def test_a_newcomer_does_not_overtake(rig: Rig) -> None:
    pool = rig({"max": 1})
    [transport] = await pool.season()
    await pool.start(b"/1")
    await pool.start(b"/2")
    transport.answer()  # /2 has the connection, but has not run yet
    await pool.start(b"/3")
    assert transport.unanswered == [b"/2"]


async def test_the_wait_is_bounded(rig: Rig) -> None:
    pool = rig({"max": 1, "wait": "3s"})
    await pool.start()
    waiting = await pool.start()
    await pool.wait(2.9)
    assert not waiting.done()
    await pool.wait(0.1)
    with pytest.raises(LeaseTimeout) as caught:
        waiting.result()
    assert caught.value.retry_after_s == 1


async def test_a_deadline_ends_the_wait_sooner(rig: Rig) -> None:
    pool = rig({"max": 1, "wait": "3s"})
    await pool.start()
    waiting = await pool.start(deadline_s=0.2)
    await pool.wait(0.2)
    with pytest.raises(DeadlineExceeded):
        waiting.result()


async def test_the_queue_is_bounded(rig: Rig) -> None:
    pool = rig({"max": 1, "queue": 1})
    await pool.start()
    await pool.start()
    refused = await pool.start()
    with pytest.raises(QueueFull):
        refused.result()


async def test_a_connection_that_dies_while_handed_over_is_replaced(rig: Rig) -> None:
    pool = rig({"max": 1})
    [transport] = await pool.season()
    await pool.start(b"/1")
    second = await pool.start(b"/2")
    transport.answer()
    transport.hang_up()
    await settle()
    assert pool.asked[0] is not transport
    pool.asked[0].answer()
    await settle()
    assert second.result().body == b"/2"


async def test_a_broken_connection_makes_room_for_who_waits(rig: Rig) -> None:
    pool = rig({"max": 1})
    first, second = await pool.start(b"/1"), await pool.start(b"/2")
    pool.asked[0].send(b"garbage")
    await settle()
    with pytest.raises(BadReply):
        first.result()
    pool.asked[0].answer()
    await settle()
    assert second.result().body == b"/2"


async def test_streams_leave_a_way_through(rig: Rig) -> None:
    pool = rig({"max": 10})
    streams = [await pool.start(accept=b"text/event-stream") for _ in range(9)]
    for transport in pool.asked:
        transport.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    tenth = await pool.start(accept=b"text/event-stream")
    short = await pool.start(b"/short")
    assert not tenth.done()
    pool.dialer.open[-1].answer()
    await settle()
    assert short.result().body == b"/short"
    body = streams[0].result().body
    assert isinstance(body, Stream)
    body.abandon()
    await settle()
    assert pool.state[3] == 0, "a stream has ended: the next may begin"
    for stream in streams[1:]:
        body = stream.result().body
        assert isinstance(body, Stream)
        body.abandon()


async def _unread(pool: PoolRig) -> Stream:
    """A stream that its reader has stopped reading."""
    before = len(pool.asked)
    task = await pool.start()
    pool.asked[before].send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    body = task.result().body
    assert isinstance(body, Stream)
    body.limit(4, 2)
    pool.asked[before].send(b"8\r\n12345678\r\n")
    await settle()
    return body


async def test_readers_that_take_nothing_make_way_slowest_first(rig: Rig) -> None:
    pool = rig({"max": 2, "stall": "500ms"})
    first = await _unread(pool)
    await pool.wait(0.2)
    second = await _unread(pool)
    waiting = await pool.start(b"/waiting")
    assert pool.state[3] == 1
    await pool.wait(0.31)
    assert isinstance(first.error, ReaderStalled)
    assert second.error is None
    pool.asked[-1].answer()
    await settle()
    assert waiting.result().body == b"/waiting"
    second.abandon()


async def test_a_reader_that_stops_while_others_wait_makes_way_in_time(rig: Rig) -> None:
    pool = rig({"max": 1, "stall": "500ms"})
    task = await pool.start()
    pool.asked[0].send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    body = task.result().body
    assert isinstance(body, Stream)
    body.limit(4, 2)
    waiting = await pool.start(b"/waiting")
    await pool.wait(1.0)
    assert body.error is None, "a stream that is read is nobody's fault"
    pool.asked[0].send(b"8\r\n12345678\r\n")
    await pool.wait(0.51)
    assert isinstance(body.error, ReaderStalled)
    pool.asked[-1].answer()
    await settle()
    assert waiting.result().body == b"/waiting"


async def test_slow_readers_are_left_alone_while_there_is_room(rig: Rig) -> None:
    pool = rig({"max": 2, "stall": "500ms"})
    body = await _unread(pool)
    await pool.wait(5.0)
    short = await pool.start(b"/short")
    pool.asked[-1].answer()
    await settle()
    assert short.result().body == b"/short"
    assert body.error is None
    body.abandon()


# ------------------------------------------------------------------ dials
async def test_refused_dials_fail_their_calls(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    pool.dialer.refuse()
    await settle()
    with pytest.raises(ConnectFailed):
        task.result()
    assert pool.events.counts["connected connect_failed"] == 1
    assert pool.troubles == 1


async def test_after_refusals_calls_fail_fast_until_the_back_off_is_over(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    for _ in range(3):
        await pool.start()
    while pool.dialer.pending:
        pool.dialer.refuse()
        await settle()
    quick = await pool.start()
    with pytest.raises(ConnectFailed):
        quick.result()
    await pool.wait(5.0)
    await pool.start()
    assert len(pool.dialer.pending) == 1


async def test_waiting_calls_are_dialed_for_when_the_back_off_is_over(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    await pool.start()
    second = await pool.start(b"/2")
    pool.dialer.refuse()
    pool.dialer.refuse()
    third = await pool.start(b"/3")
    assert second.done()
    assert pool.dialer.pending == []
    await pool.wait(0.2)
    pool.dialer.accept()
    await settle()
    pool.asked[0].answer()
    await settle()
    assert third.result().body == b"/3"


async def test_at_most_eight_dials_at_once(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    for _ in range(20):
        await pool.start()
    assert len(pool.dialer.pending) == 8


async def test_a_connection_closed_at_birth_is_a_failed_dial(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    pool.dialer.accept().hang_up()
    await settle()
    with pytest.raises(ConnectFailed, match="at once"):
        task.result()
    assert pool.state == (0, 0, 0, 0)


async def test_addresses_that_are_gone_lose_their_connections(rig: Rig) -> None:
    pool = rig()
    await pool.season(2)
    task = await pool.start()
    assert pool.dialer.on_gone is not None
    pool.dialer.on_gone(frozenset({"192.0.2.9"}))
    assert pool.state == (1, 1, 0, 0)
    pool.dialer.on_gone(frozenset({"192.0.2.1"}))
    assert pool.state == (0, 1, 0, 0)
    pool.asked[0].answer()
    await settle()
    assert task.result().status == 200
    assert pool.state == (0, 0, 0, 0)


# ------------------------------------------------------------------ stale connections
@pytest.mark.parametrize("how", ["fin", "reset", "unasked bytes", "unnoticed fin"])
async def test_a_connection_that_ended_while_idle_is_never_used(rig: Rig, how: str) -> None:
    pool = rig()
    [transport] = await pool.season()
    actions = {
        "fin": transport.hang_up,
        "reset": lambda: transport.lose(ConnectionResetError()),
        "unasked bytes": lambda: transport.send(TIMED_OUT),
        "unnoticed fin": transport.hang_up_unnoticed,
    }
    actions[how]()
    task = await pool.start(b"/next")
    assert pool.asked[0] is not transport
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/next"


async def test_an_idempotent_call_on_a_dying_connection_is_repeated_on_a_new_one(rig: Rig) -> None:
    pool = rig()
    seasoned = await pool.season(2)
    task = await pool.start(b"/once")
    [dying] = pool.asked
    assert dying in seasoned
    dying.hang_up()
    await settle()
    [fresh] = pool.asked
    assert fresh not in seasoned, "the other idle one may be dying too"
    fresh.answer()
    await settle()
    assert task.result().body == b"/once"
    assert pool.events.counts["stale"] == 1


async def test_it_is_repeated_once_only(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.hang_up()
    await settle()
    pool.asked[0].hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_call_that_is_not_idempotent_is_not_repeated(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start(idempotent=False)
    dying.hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()
    assert pool.asked == []


async def test_a_call_is_not_repeated_once_its_answer_has_begun(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.send(b"HTTP/1.1 2")
    dying.hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_call_on_a_new_connection_is_not_repeated(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].hang_up()
    await settle()
    with pytest.raises(Reset):
        task.result()


async def test_a_408_that_closes_a_reused_connection_is_a_stale_end(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start(b"/once")
    dying.send(TIMED_OUT)
    await settle()
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/once"


async def test_a_408_on_a_new_connection_is_the_answer(rig: Rig) -> None:
    pool = rig()
    task = await pool.start()
    pool.asked[0].send(TIMED_OUT)
    await settle()
    assert task.result().status == 408


async def test_a_call_that_must_not_be_repeated_avoids_long_idle_connections(rig: Rig) -> None:
    pool = rig({"max": 1})
    [old] = await pool.season()
    await pool.wait(3.0)
    task = await pool.start(b"/charge", idempotent=False)
    assert old.is_closed, "the full pool made room"
    pool.asked[0].answer()
    await settle()
    assert task.result().body == b"/charge"
    assert pool.events.counts["closed room"] == 1


async def test_it_takes_one_that_rested_no_longer_than_others_have(rig: Rig) -> None:
    pool = rig({"max": 2})
    await pool.season(2)
    await pool.wait(2.0)
    await pool.start()
    pool.asked[0].answer()
    await pool.wait(1.5)
    await pool.start(idempotent=False)
    assert len(pool.asked) == 1
    assert len(pool.dialer.transports) == 2, "no new connection"


async def test_one_that_is_passed_over_is_the_proof_for_the_next_call(rig: Rig) -> None:
    pool = rig()
    await pool.season(2)
    await pool.wait(0.5)
    await pool.start(idempotent=False)
    assert len(pool.dialer.transports) == 3, "0.5 s were not proven"
    pool.asked[0].answer()
    await pool.wait(0.3)
    await pool.start(idempotent=False)
    assert len(pool.dialer.transports) == 3


async def test_it_may_follow_an_answer_directly(rig: Rig) -> None:
    pool = rig()
    [recent] = await pool.season()
    await pool.start(idempotent=False)
    assert recent.unanswered


async def test_after_a_breach_of_trust_it_may_not(rig: Rig) -> None:
    pool = rig({"max": 1})
    [liar] = await pool.season()
    liar.hang_up()
    await pool.season()
    first = await pool.start()
    careful = await pool.start(b"/charge", idempotent=False)
    used = pool.asked[0]
    used.answer()
    await settle()
    first.result()
    assert used.is_closed
    pool.asked[0].answer()
    await settle()
    assert careful.result().body == b"/charge"


async def test_a_repeated_call_that_is_cancelled_leaves_nothing(rig: Rig) -> None:
    pool = rig()
    [dying] = await pool.season()
    task = await pool.start()
    dying.hang_up()
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert pool.state == (0, 0, 0, 0)


# ------------------------------------------------------------------ time-outs
async def test_a_silent_backend_is_given_up(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    task = await pool.start()
    await pool.wait(1.9)
    assert not task.done()
    await pool.wait(0.1)
    with pytest.raises(ReadTimeout):
        task.result()
    assert pool.events.counts["closed timeout"] == 1


async def test_the_deadline_of_a_call_comes_first(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    patient = await pool.start()
    hasty = await pool.start(deadline_s=0.5)
    await pool.wait(0.5)
    with pytest.raises(DeadlineExceeded):
        hasty.result()
    assert not patient.done()


async def test_each_call_has_its_own_time(rig: Rig) -> None:
    pool = rig(timeouts={"first_byte": "2s"})
    first = await pool.start()
    await pool.wait(1.0)
    second = await pool.start()
    await pool.wait(1.0)
    assert first.done()
    assert not second.done()
    await pool.wait(1.0)
    assert second.done()


# ------------------------------------------------------------------ upkeep
async def test_idle_connections_are_closed_in_time(rig: Rig) -> None:
    pool = rig({"idle": "10s"})
    await pool.season(2)
    await pool.wait(9.9)
    assert pool.state[0] == 2
    await pool.wait(0.2)
    assert pool.state[0] == 0
    assert pool.events.counts["closed idle"] == 2


async def test_a_connection_is_used_up_by_requests(rig: Rig) -> None:
    pool = rig({"max_requests": 4})
    [transport] = await pool.season()
    assert transport.is_closed, "three rests, four calls"
    assert pool.events.counts["closed requests"] == 1


async def test_a_connection_that_grew_too_old_is_not_used(rig: Rig) -> None:
    pool = rig({"max_age": "1s", "idle": "30s"})
    task = await pool.start()
    await pool.wait(1.2)
    pool.asked[0].answer()
    await settle()
    task.result()
    assert pool.events.counts["closed age"] == 1


async def test_what_ran_out_just_now_is_not_taken(rig: Rig) -> None:
    pool = rig({"idle": "10s"})
    [transport] = await pool.season()
    pool.pool._stock.alarm.cancel()  # the alarm is late
    await pool.wait(10.0)
    await pool.start()
    assert transport.is_closed
    assert pool.asked


async def test_a_healthy_endpoint_is_kept_warm(rig: Rig) -> None:
    pool = rig({"min": 3})
    pool.pool.keep_warm()
    await pool.wait(1.0)
    assert pool.state == (3, 0, 0, 0)
    pool.dialer.open[0].hang_up()
    await pool.wait(1.0)
    assert pool.state == (3, 0, 0, 0)


async def test_spares_can_be_warmed_with_a_request(rig: Rig) -> None:
    pool = rig({"min": 2, "warm_with": "/warm"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    await pool.wait(0.1)
    assert [transport.unanswered for transport in pool.asked] == [[b"/warm"]] * 2
    for transport in pool.asked:
        transport.answer()
    await settle()
    assert pool.state == (2, 0, 0, 0)


async def test_a_warm_up_that_fails_or_streams_costs_only_its_connection(rig: Rig) -> None:
    pool = rig({"min": 1, "warm_with": "/warm", "connect": "1s"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    [first] = pool.asked
    first.hang_up()
    await pool.wait(0.2)
    [second] = pool.asked
    second.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    assert second.is_closed
    await pool.wait(0.2)
    [third] = pool.asked
    third.answer()
    await settle()
    assert pool.state == (1, 0, 0, 0)


async def test_closing_ends_a_warm_up(rig: Rig) -> None:
    pool = rig({"min": 1, "warm_with": "/warm"})
    pool.pool.keep_warm()
    await pool.wait(0.1)
    [transport] = pool.asked
    await pool.pool.close()
    assert transport.is_closed


async def test_mass_closing_is_reported(rig: Rig) -> None:
    pool = rig()
    transports = await pool.season(4)
    await pool.wait(0.1)
    for transport in transports:
        transport.hang_up()
    assert pool.troubles == 3


async def test_the_adaptive_limit_holds_calls_back(rig: Rig) -> None:
    pool = rig(concurrency={"mode": "adaptive", "least": 1, "most": 2})
    await pool.season(2)
    for _ in range(3):
        await pool.start()
    assert pool.state[1] == 2
    assert pool.state[3] == 1
    pool.asked[0].answer()
    await settle()
    assert pool.state[3] == 0


# ------------------------------------------------------------------ the end
async def test_closing_ends_everything(rig: Rig) -> None:
    pool = rig({"max": 1})
    busy, waiting = await pool.start(), await pool.start()
    await pool.pool.close()
    await settle()
    with pytest.raises(Reset):
        busy.result()
    with pytest.raises(NoHealthyEndpoint):
        waiting.result()
    late = await pool.start()
    with pytest.raises(NoHealthyEndpoint):
        late.result()


async def test_closing_cancels_dials(rig: Rig) -> None:
    pool = rig()
    pool.dialer.is_eager = False
    task = await pool.start()
    await pool.pool.close()
    assert pool.dialer.pending == []
    await settle()
    assert task.done()


async def test_what_comes_back_after_closing_is_not_kept(rig: Rig) -> None:
    pool = rig()
    [transport] = await pool.season()
    await pool.pool.close()
    assert transport.is_closed
    assert pool.events.counts["closed shutdown"] == 1


async def test_the_gauges_follow(rig: Rig) -> None:
    pool = rig({"max": 1})
    await pool.start()
    await pool.start()
    assert pool.pool.connections == {"active": 1, "idle": 0, "connecting": 0}
    assert (pool.pool.load, pool.pool.waiting, pool.pool.lease_limit) == (2, 1, 1)
    assert pool.pool.idle_limit_s == 30.0
