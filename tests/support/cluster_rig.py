"""A real `Cluster` on a fake clock, before real sockets of this machine."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Self

from proxy.exchange import Call, Reply, Stream
from proxy.pooling.cluster import Cluster
from proxy.pooling.endpoint import parse_endpoint
from proxy.pooling.policy import UpstreamPolicy
from tests.support.clock import FakeClock
from tests.support.pool_events import RecordedEvents
from tests.support.pool_rig import settle
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.raw_backend import RawBackend

__all__ = ("ClusterRig", "failures")


class ClusterRig:
    """`policy` is what an operator would write below ``upstreams.<name>``, `pool` what below its ``pool.http``.

    Probes go to ``/health``.
    """

    def __init__(
        self,
        *backends: RawBackend | str,
        protocol: str = "openai",
        pool: dict[str, object] | None = None,
        **policy: object,
    ) -> None:
        self.clock = FakeClock()
        self.events = RecordedEvents()
        self.sightings: list[bool] = []
        http = {"min": 0, "connect": "60s"}  # a busy machine is not what is tested
        urls = [backend if isinstance(backend, str) else backend.url for backend in backends]
        self.cluster = Cluster(
            "model",
            [parse_endpoint(url) for url in urls],
            UpstreamPolicy.model_validate(
                {"health": {"timeout": "30s"}} | policy | {"pool": {"http": http | (pool or {})}}
            ),
            self.clock,
            events=self.events,
            protocol=protocol,
            random=Random(11).random,
            seen=lambda _endpoint, /, *, is_alive: self.sightings.append(is_alive),
        )

    async def __aenter__(self) -> Self:
        await self.cluster.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cluster.stop()
        assert not self.clock.pending
        assert all(state["idle"] == state["leased"] == 0 for state in self.cluster.snapshot())

    @property
    def health(self) -> list[object]:
        """The endpoints' health, as probes see it."""
        return [state["health"] for state in self.cluster.snapshot()]

    @property
    def ejected(self) -> list[object]:
        """Which endpoints are ejected."""
        return [state["ejected"] for state in self.cluster.snapshot()]

    async def probe(self, span_s: float = 0.0) -> None:
        """Let `span_s` seconds pass, and the probes that fall due meanwhile end."""
        instant = self.clock.now() + span_s
        due = sum(member.health.next_probe_at <= instant for member in self.cluster._members)
        expected = self._probes() + due
        self.clock.advance_to(instant)
        await until(lambda: self._probes() >= expected)

    def _probes(self) -> int:
        return self.events.counts["probed ok"] + self.events.counts["probed failed"]

    async def up(self) -> None:
        """Probe until every endpoint is up."""
        while set(self.health) != {"up"}:
            await self.probe(1.0)

    async def learn(self) -> None:
        """As `up`, and make as many calls as it takes to know which are slow."""
        await self.up()
        for _ in range(4):
            await self.calls(8)

    async def down(self) -> None:
        """Probe until every endpoint is down."""
        while set(self.health) != {"down"}:
            await self.probe(1.0)

    async def told(self, words: str) -> None:
        """Probe until `words` are why the cluster is not ready: the first probes of all have little time."""
        while words not in self.cluster.readiness()[1]:
            await self.probe(1.0)

    async def up_except_delay(self, slow: RawBackend) -> None:
        """`up`, although `slow` takes its time with calls."""
        delay_s, slow.manners.delay_s = slow.manners.delay_s, 0.0
        await self.up()
        slow.manners.delay_s = delay_s

    async def call(
        self, target: bytes = b"/infer", *, idempotent: bool = True, method: bytes = b"POST"
    ) -> Reply:
        """Exchange one call; a streamed answer is read to its end."""
        call = Call(method, target, ((b"Host", b"m"),), b"")
        call.idempotent = idempotent
        reply = await self.cluster.exchange(call)
        if isinstance(reply.body, Stream):
            chunks = []
            while chunk := await reply.body.read():
                chunks.append(chunk)
            reply.body = b"".join(chunks)
        return reply

    async def call_later(self, target: bytes = b"/infer", *, idempotent: bool = True) -> asyncio.Task[Reply]:
        """Begin one call, and let it come as far as it comes without time passing."""
        task = asyncio.get_running_loop().create_task(self.call(target, idempotent=idempotent))
        await settle()
        return task

    async def calls(self, count: int, **how: object) -> list[Reply | BaseException]:
        """Exchange `count` calls at once."""
        return await asyncio.gather(
            *(self.call(b"/%d" % index, **how) for index in range(count)),  # type: ignore[arg-type]  # see `call`
            return_exceptions=True,
        )


def failures(outcomes: Sequence[Reply | BaseException]) -> list[Reply | BaseException]:
    """The outcomes other than 200."""
    return [one for one in outcomes if isinstance(one, BaseException) or one.status != 200]
