"""What a demo server is told when it starts. Spans are seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("DEFAULT_MODELS", "POISON", "DemoOptions", "ModelSpec")

POISON = -666.0
"""An item whose first number is this one fails its whole batch."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One servable model: `kind` names the computation (see `models.KINDS`)."""

    name: str
    kind: str = "digits"
    load_s: float = 0.0
    """Span of one load; a model with a load time starts unloaded, one without starts loaded."""


DEFAULT_MODELS = tuple(ModelSpec(kind, kind) for kind in ("digits", "sum", "pair", "words"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Costs, models and misbehaviour of one server. A batch of n items costs ``fixed_s + n * item_s``."""

    models: tuple[ModelSpec, ...] = DEFAULT_MODELS
    fixed_s: float = 0.0
    """Cost of one batch whatever its size; also the span before a chat's first token."""
    item_s: float = 0.0
    """Cost of each item."""
    parallelism: int = 1
    """Batches computed at once; the rest queue, first come first served. Costs of 0 never queue."""
    jitter: float = 0.0
    """Standard deviation of a batch's cost relative to its mean (0.05: five per cent)."""
    seed: int = 0
    """Seeds the jitter."""
    token_s: float = 0.0
    """Span between two chat tokens."""
    handshake_s: float = 0.0
    """Span between accepting a connection and reading from it: what TLS or a slow accept costs."""
    keepalive_s: float = 0.0
    """An idle connection is closed after this span; 0: never."""
    max_batch_size: int = 0
    """A larger batch is refused, as Triton does; 0: no limit."""
    load_parallelism: int = 1
    """Models loaded at once; the rest queue."""
    load_on_demand: bool = False
    """Inference on an unloaded model waits for its load; otherwise it is refused."""
    poison_hint: bool = False
    """The error of a poisoned batch names the item's index."""
    faults: tuple[str, ...] = ()
    """Faults in force from the start, in the words of the ``Demo-Fault`` header (see `faults`)."""
