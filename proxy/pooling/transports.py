"""One upstream's doors: gRPC calls go to its channels, all others to its HTTP/1.1 connections, bytes that
nobody reads to connections of their own.

Owned by the application, a component of its lifecycle, owner of its clusters. An upstream may have only one
door; a call for the other one has nowhere to go, which is the configuration's affair and is answered like an
unknown route.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import RouteNotFound

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from proxy.exchange import Begun, Call, Reply, Taker
    from proxy.pooling.cluster import Cluster

__all__ = ("Transports",)


class Transports:
    """Implements `Upstream` over the clusters for calls; `l4` is the one for bytes.

    `others` takes the gRPC calls of an upstream that has no such door: a gRPC path names no upstream, so
    what the catch-all route brought here belongs to the first upstream that speaks it.
    """

    def __init__(
        self,
        http: Cluster | None,
        grpc: Cluster | None,
        others: Cluster | None = None,
        l4: Cluster | None = None,
    ) -> None:
        self.clusters = tuple(cluster for cluster in (http, grpc, l4) if cluster is not None)
        self.l4 = l4
        self._http = http
        self._grpc = grpc or others

    def exchange(self, call: Call) -> Coroutine[None, None, Reply]:
        """Send `call` by the transport that it speaks; raises what the cluster raises, or `RouteNotFound`.

        The cluster's own coroutine, not one around it: this is on every call's path.
        """
        cluster = self._grpc if call.is_grpc else self._http
        if cluster is None:
            raise RouteNotFound(f"this upstream has no {'gRPC' if call.is_grpc else 'HTTP'} endpoint")
        return cluster.exchange(call)

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send a gRPC `call` without a task where that takes no waiting: see `PromptUpstream`."""
        cluster = self._grpc if call.is_grpc else None
        return None if cluster is None else cluster.begin(call, taker)

    async def start(self) -> None:
        """Begin to probe the endpoints; does not wait for them."""
        for cluster in self.clusters:
            await cluster.start()

    async def stop(self) -> None:
        """Close every connection."""
        for cluster in self.clusters:
            await cluster.stop()

    def vouch(self) -> None:
        """The backend has just answered by another way: see `Cluster.vouch`."""
        for cluster in self.clusters:
            cluster.vouch()

    def readiness(self) -> tuple[bool, str]:
        """Whether each door leads to a healthy endpoint, and why not."""
        problems = [
            why for is_ready, why in (cluster.readiness() for cluster in self.clusters) if not is_ready
        ]
        return not problems, "; ".join(problems)

    def snapshot(self) -> list[dict[str, object]]:
        """The endpoints' states for the status page."""
        return [endpoint for cluster in self.clusters for endpoint in cluster.snapshot()]
