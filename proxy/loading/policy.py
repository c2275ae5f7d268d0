"""What an operator says about loading models (YAML: ``loading``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.fields import Duration, Policy, Share, Size

__all__ = (
    "ColdPolicy",
    "ControlPolicy",
    "HistoryPolicy",
    "LoadingPolicy",
    "ModelLoadPolicy",
    "WarmupPolicy",
)

ControlProtocol = Literal[
    "auto", "none", "open-inference", "torchserve", "tf-serving", "ollama", "llamacpp", "vllm", "replay"
]


class ColdPolicy(Policy):
    """What happens to a request whose model is not resident."""

    max_wait: Duration = 30.0
    """Longest span one request waits for a load; the request's own deadline may be sooner."""
    queue: int = Field(default=256, ge=0)
    """Requests that may wait at once, per model; more are answered 503."""


class HistoryPolicy(Policy):
    """Where what was learned about the models outlives a restart."""

    file: str = ""
    """Path of the snapshot, replaced atomically; empty keeps the history in memory alone."""
    every: Duration = 60.0
    """Span between two snapshots; one more is written at exit."""


class WarmupPolicy(Policy):
    """One small request that a freshly loaded model must answer before it counts as ready."""

    path: str
    """Request target at the upstream; ``{model}`` stands for the model's name."""
    method: Literal["GET", "POST"] = "POST"
    """Request method."""
    body: str = ""
    """Request body, sent as JSON."""
    timeout: Duration = 30.0
    """Span allowed for one answer."""


class ModelLoadPolicy(Policy):
    """What is known about one model beforehand; whatever is left out is measured."""

    size: Size | None = None
    """Bytes the model holds while it is resident."""
    load_time: Duration | None = None
    """Expected span of one load, until the first measured ones replace it."""
    pin: bool = False
    """Never evict this model."""
    priority: float = Field(default=1.0, gt=0, le=1000)
    """Weight of one waiting request when the next load is chosen."""
    unload: Literal["auto", "never"] = "auto"
    """`never` for backends that do not give this model's memory back."""
    group: str = ""
    """At most one model of a named group is resident at a time."""
    path: str = ""
    """Where the backend finds the model, if its load call asks (TorchServe, TF Serving, LoRA adapters)."""
    warmup: WarmupPolicy | None = None
    """Request that proves a loaded model; none trusts the backend's word."""


class ControlPolicy(Policy):
    """How the backend is asked to load and unload."""

    protocol: ControlProtocol = "auto"
    """Dialect of the control interface; `auto` asks the backend, `none` never controls it."""
    upstream: str = ""
    """Name of the upstream whose models are managed; empty means the first one, and while `mode` only
    observes the first that is not `generic`."""
    url: str = ""
    """Base URL of the control interface where it is not the upstream's own (TorchServe's management port)."""
    every: Duration = 10.0
    """Span between two listings of the backend's models; what others loaded or unloaded is seen then."""


class LoadingPolicy(Policy):
    """When models are loaded, kept and evicted."""

    mode: Literal["off", "observe", "demand", "predictive"] = "observe"
    """`observe` decides and counts but does nothing; `demand` loads what a request waits for; `predictive`
    also loads ahead of the requests it expects."""
    budget: Size = 0
    """Bytes that all resident models may hold together; 0: no limit known, nothing is evicted for memory."""
    max_models: int = Field(default=0, ge=0)
    """Models that may be resident at once; 0: no limit."""
    session_header: str = ""
    """Request header field whose value tells users or sessions apart, for models that are used one after
    another; empty: none."""
    concurrency: int = Field(default=1, ge=1, le=64)
    """Loads that run at once; more than one shares the same disk and bus."""
    cold: ColdPolicy = ColdPolicy()
    preload: tuple[str, ...] = ()
    """Models that are always loaded at start, in this order, before any other."""
    may_evict: bool = False
    """Whether a prediction may evict what is worth less than it; off, it only ever uses free memory."""
    max_share: Share = 0.10
    """Share of wall time that loads nobody has used yet may take together."""
    min_precision: Share = 0.30
    """Share of a model's predictions that must come true; below it they are switched off for a while."""
    idle_unload: Annotated[Literal["off", "auto"] | Duration, Field(union_mode="left_to_right")] = "off"
    """`off` evicts under pressure alone; `auto` unloads a model when its own past says that it will not be
    needed soon; a span unloads after that much idleness."""
    history: HistoryPolicy = HistoryPolicy()
    control: ControlPolicy = ControlPolicy()
    models: dict[str, ModelLoadPolicy] = Field(default_factory=dict)
    """What is known beforehand, by model name."""
