"""What every kind of pool is given, by the member of the cluster that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pooling.dial import Dialer
    from proxy.pooling.endpoint import Endpoint
    from proxy.pooling.events import PoolEvents
    from proxy.pooling.policy import UpstreamPolicy
    from proxy.timing import Clock

__all__ = ("PoolContext",)


class PoolContext(NamedTuple):
    """The surroundings of the pool of one endpoint.

    `random` draws from [0, 1). `on_trouble` is called when dials fail or connections vanish together: the
    endpoint should be probed.
    """

    endpoint: Endpoint
    policy: UpstreamPolicy
    dialer: Dialer
    clock: Clock
    events: PoolEvents
    random: Callable[[], float]
    on_trouble: Callable[[], None]
