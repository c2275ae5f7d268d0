"""The pool as a stateful machine: whatever callers, backend and clock do, and in whatever order.

The real `HttpPool` runs on a fake clock and on transports that Hypothesis answers, breaks or leaves alone. After
every step nothing may exceed its bound or be in two places; no call may see another call's answer or be
executed more often than it allows; and in the end, every call has ended and nothing is left open.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import ProxyError
from proxy.exchange import Call, Reply
from proxy.pooling.context import PoolContext
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.http_pool import HttpPool
from proxy.pooling.idle_time import REST_S
from proxy.pooling.policy import UpstreamPolicy
from proxy.timing import NEVER, Deadline
from tests.support.clock import FakeClock
from tests.support.fake_backend import FakeDialer, FakeTransport
from tests.support.pool_events import RecordedEvents

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX = 3
_QUEUE = 5


class HttpPoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.dialer = FakeDialer()
        self.tasks: dict[bytes, asyncio.Task[Reply]] = {}
        self.allowed: dict[bytes, int] = {}
        self.serial = 0
        self.pool: HttpPool

    # ------------------------------------------------------------- the world
    def step(self, action: Callable[[], object] = lambda: None) -> None:
        """Do `action` inside the loop, then let everything that follows from it happen."""

        async def run() -> None:
            action()
            for _ in range(12):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    @initialize(
        least=st.integers(0, 2),
        adaptive=st.booleans(),
        max_requests=st.sampled_from([0, 3]),
        is_warm=st.booleans(),
        seasoned=st.integers(0, 3),
    )
    def build(self, least: int, adaptive: bool, max_requests: int, is_warm: bool, seasoned: int) -> None:
        """`seasoned` connections have carried a call and rested before the story begins."""
        policy = UpstreamPolicy.model_validate(
            {
                "pool": {"http": {"min": least, "max": _MAX, "queue": _QUEUE, "max_requests": max_requests}},
                "timeouts": {"first_byte": "5s", "idle": "5s"},
                "concurrency": {"mode": "adaptive" if adaptive else "off", "least": 1, "most": 3},
            }
        )
        endpoint = parse_endpoint("http://model:8000")

        def make() -> None:
            self.pool = HttpPool(
                PoolContext(
                    endpoint,
                    policy,
                    self.dialer,  # type: ignore[arg-type]  # a fake
                    self.clock,
                    events=RecordedEvents(),
                    random=Random(1).random,
                    on_trouble=lambda: None,
                )
            )
            if is_warm:
                self.pool.keep_warm()

        self.step(make)
        while seasoned and self.pool._core.must_rest:
            for _ in range(seasoned):
                self.call(idempotent=True)
            while self.dialer.pending:
                self.step(self.dialer.accept)
            for transport in self.busy():
                self.step(transport.answer)
            self.collect(leave=False)
            self.step(lambda: self.clock.advance(REST_S))

    def busy(self) -> list[FakeTransport]:
        return [transport for transport in self.dialer.open if transport.unanswered]

    def quiet(self) -> list[FakeTransport]:
        return [transport for transport in self.dialer.open if not transport.unanswered]

    # ------------------------------------------------------------- callers
    @rule(
        count=st.integers(1, 4),
        idempotent=st.booleans(),
        patience_s=st.sampled_from([None, None, 0.5, 4.0]),
        wants_stream=st.sampled_from([False, False, True]),
    )
    def calls(self, count: int, idempotent: bool, patience_s: float | None, wants_stream: bool) -> None:
        for _ in range(count):
            self.call(idempotent=idempotent, patience_s=patience_s, wants_stream=wants_stream)

    def call(self, *, idempotent: bool, patience_s: float | None = None, wants_stream: bool = False) -> None:
        self.serial += 1
        target = b"/%d" % self.serial
        deadline = NEVER if patience_s is None else Deadline(self.clock.now() + patience_s)
        headers = ((b"Host", b"m"), (b"Accept", b"text/event-stream" if wants_stream else b"*/*"))
        call = Call(b"POST", target, headers, b"", deadline=deadline)
        call.idempotent = idempotent
        self.allowed[target] = 2 if idempotent else 1

        def start() -> None:
            self.tasks[target] = self.loop.create_task(self.pool.exchange(call))

        self.step(start)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from(sorted(self.tasks)))
        self.step(self.tasks[target].cancel)

    @precondition(lambda self: self.busy())
    @rule(
        data=st.data(), order=st.permutations(["answer", "leave"]), who=st.sampled_from(["asker", "waiter"])
    )
    def leave_while_answered(self, data: st.DataObject, order: list[str], who: str) -> None:
        """A caller leaves in the very turn of the loop in which its answer, or its connection, arrives."""
        transport = data.draw(st.sampled_from(self.busy()))
        sent = {target for one in self.dialer.transports for target in one.requests}
        waiting = [task for target, task in self.tasks.items() if target not in sent]
        asker = self.tasks.get(transport.unanswered[0])
        leaver = waiting[0] if who == "waiter" and waiting else asker

        def both() -> None:
            for what in order:
                if what == "answer":
                    transport.answer()
                elif leaver is not None:
                    leaver.cancel()

        self.step(both)

    # ------------------------------------------------------------- the backend
    @precondition(lambda self: self.dialer.pending)
    @rule(is_open=st.sampled_from([True, True, True, False]))
    def dial_ends(self, is_open: bool) -> None:
        self.step(self.dialer.accept if is_open else self.dialer.refuse)

    @precondition(lambda self: self.busy())
    @rule(
        data=st.data(),
        how=st.sampled_from(["keep", "keep", "keep", "close", "announce", "surplus", "late surplus"]),
    )
    def answer(self, data: st.DataObject, how: str) -> None:
        transport = data.draw(st.sampled_from(self.busy()))
        fields = {"close": (b"Connection: close",), "announce": (b"Keep-Alive: timeout=5",)}

        def reply() -> None:
            if how == "surplus":  # in one read with the answer
                target = transport.unanswered[0]
                transport.answered += 1
                transport.is_spoilt = True
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target)
                transport.send(head + target + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstolen!")
                return
            transport.answer(*fields.get(how, ()))
            if how == "late surplus" and not transport.unanswered:
                transport.send_unasked(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

        self.step(reply)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def answer_at_length(self, data: st.DataObject) -> None:
        """A chunked answer, so that the reply is a stream; the caller leaves it after its first bytes."""
        transport = data.draw(st.sampled_from(self.busy()))
        target = transport.unanswered[0]
        transport.answered += 1
        chunk = b"%x\r\n%b\r\n" % (len(target), target)
        self.step(lambda: transport.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk))
        if data.draw(st.booleans()):
            self.step(lambda: transport.send(b"0\r\n\r\n"))
        self.collect(leave=True)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), how=st.sampled_from(["fin", "reset", "garbage", "half", "408"]))
    def break_off(self, data: st.DataObject, how: str) -> None:
        transport = data.draw(st.sampled_from(self.busy()))
        actions: dict[str, Callable[[], object]] = {
            "fin": transport.hang_up,
            "reset": lambda: transport.lose(ConnectionResetError("reset by peer")),
            "garbage": lambda: transport.send(b"\x00\x01\x02"),
            "half": lambda: transport.break_off_after(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "408": lambda: transport.send(
                b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ),
        }
        self.step(actions[how])

    @precondition(lambda self: self.quiet())
    @rule(data=st.data(), how=st.sampled_from(["fin", "unnoticed", "unasked", "all"]))
    def disturb_idle(self, data: st.DataObject, how: str) -> None:
        transport = data.draw(st.sampled_from(self.quiet()))
        actions: dict[str, Callable[[], object]] = {
            "fin": transport.hang_up,
            "unnoticed": transport.hang_up_unnoticed,
            "unasked": lambda: transport.send_unasked(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nstolen!"),
            "all": self.hang_up_all,
        }
        self.step(actions[how])

    def hang_up_all(self) -> None:
        for transport in self.quiet():
            transport.hang_up()

    # ------------------------------------------------------------- time
    @rule(span_s=st.sampled_from([0.001, REST_S, 0.05, 0.3, 1.0, 6.0, 31.0]))
    def time_passes(self, span_s: float) -> None:
        self.step(lambda: self.clock.advance(span_s))

    @rule()
    def endpoint_is_healthy(self) -> None:
        self.step(self.pool.keep_warm)

    # ------------------------------------------------------------- what must hold
    @invariant()
    def bounds_hold(self) -> None:
        core = getattr(self, "pool", None) and self.pool._core
        if not core:
            return
        assert core.total <= _MAX
        assert core.dialing == len(self.dialer.pending)
        assert len(core.waiting) <= _QUEUE
        assert not set(core.idle) & core.leased
        assert len(set(core.idle)) == len(core.idle)
        assert core.streams <= core.leased

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if not hasattr(self, "pool"):
            return
        core = self.pool._core
        kept = {id(connection) for connection in (*core.idle, *core.leased)}
        assert kept == {id(transport.protocol) for transport in self.dialer.open}

    @invariant()
    def nobody_waits_beside_a_free_connection(self) -> None:
        if not hasattr(self, "pool"):
            return
        core = self.pool._core
        may_lease = core.idle and not core.must_rest and len(core.leased) < core.lease_limit
        if may_lease and not core.is_streaming_full:
            candidate, upkeep = core.peek(), self.pool._stock.upkeep
            is_safe = candidate is not None and upkeep.is_safe(candidate, self.clock.now())
            assert all(one.needs_fresh or (one.is_once and not is_safe) for one in core.waiting)

    @invariant()
    def every_answer_is_its_own(self) -> None:
        self.collect(leave=False)

    def collect(self, *, leave: bool) -> None:
        for target, task in list(self.tasks.items()):
            if not task.done():
                continue
            del self.tasks[target]
            if task.cancelled() or isinstance(task.exception(), ProxyError):
                continue
            body = task.result().body
            if isinstance(body, bytes):
                assert body in {target, b""}, "another call's answer"
                assert body or task.result().status == 408
            else:
                assert target.startswith(body.read_nowait()) or not leave
                self.step(body.abandon)

    @invariant()
    def nobody_works_for_a_caller_who_left(self) -> None:
        assert all(target in self.tasks for transport in self.busy() for target in transport.unanswered)

    @invariant()
    def no_spoilt_connection_is_used_again(self) -> None:
        assert not any(transport.was_reused_when_spoilt for transport in self.dialer.transports)

    @invariant()
    def nothing_is_executed_too_often(self) -> None:
        counts: dict[bytes, int] = {}
        for transport in self.dialer.transports:
            for target in transport.requests:
                counts[target] = counts.get(target, 0) + 1
        assert all(count <= self.allowed[target] for target, count in counts.items())

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            for _ in range(4):
                while self.dialer.pending:
                    self.step(self.dialer.refuse)
                self.step(lambda: self.clock.advance(10.0))
                self.collect(leave=False)
            assert not self.tasks, "a call that never ends"
            assert not self.pool._core.leased
            self.loop.run_until_complete(self.pool.close())
            assert self.pool._core.total == 0
            assert not self.dialer.open
            assert not self.clock.pending
        self.loop.close()
        super().teardown()


TestHttpPoolMachine = HttpPoolMachine.TestCase
TestHttpPoolMachine.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, derandomize=True
)
