"""What an operator says about batching one model (YAML: ``models.<glob>.batch``)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from proxy.config.fields import Duration, Policy, Share, Size

__all__ = ("BatchPolicy", "ItemBounds")


class ItemBounds(Policy):
    """How many items an upstream call may carry."""

    start: int = Field(default=100, ge=1, le=10_000)
    """Items per batch at which a batch is full before anything was learned; in `window` mode always."""
    least: int = Field(default=25, ge=1, le=10_000)
    """Items per batch below which a learned bound never goes."""
    most: int = Field(default=200, ge=1, le=10_000)
    """Items per batch above which a learned bound never goes."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.least <= self.start <= self.most:
            raise ValueError(
                f"least ({self.least}), start ({self.start}) and most ({self.most}) must be in this order"
            )
        return self


class BatchPolicy(Policy):
    """When requests for one model are coalesced, and how far."""

    mode: Literal["adaptive", "window", "off"] = "adaptive"
    """`adaptive` never holds a request while the backend is idle, except for the moment in which callers who
    were just answered are known to come back; `window` sends at `items.start` items or after `max_wait`;
    `off` forwards each request alone."""
    max_wait: Duration = 0.050
    """Span from the oldest member's arrival after which a batch leaves whatever its size. In `adaptive` mode
    a backend that is known to need longer is not hurried: sending it more would only make its queue
    longer."""
    items: ItemBounds = ItemBounds()
    inflight: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    """Batches in flight at once, per upstream; `auto` starts at 1 and learns (no limit in `window` mode). A
    number is never exceeded: where all are in flight, a batch leaves when one comes back, after `max_wait` if
    need be."""
    objective: Duration | None = None
    """Span per batch, from leaving to its answer, that the learned size aims below; none: the size at which
    an item costs nearly the least."""
    max_bytes: Size = 8 << 20
    """Request body bytes per batch."""
    verify: Share = 0.0
    """Share of batched calls that are sent again alone, to compare the answers; at most one of each batch. A
    model whose answers differ is not batched any more."""
    isolate: tuple[str, ...] = ("authorization",)
    """Request header fields whose values must be equal within a batch and that tell tenants apart.
    Without `authorization` a merged call carries no credentials."""
    ignore: tuple[str, ...] = ()
    """Request header fields that neither separate batches nor travel with one. Fields that Pillion knows to
    be noise (such as `user-agent` and `traceparent`) need not be listed."""
