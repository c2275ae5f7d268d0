"""What a route is, and what an operator says about one (YAML: ``routes``).

A path pattern is literal text, except that ``{name}`` stands for one or more characters other than ``/``
and a final ``*`` for any rest. ``{model}`` and ``{version}`` name the model that a call is for; other names
only say what may vary. Patterns are compared with the path as it was sent, percent-encoding included,
without the query.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from proxy.config.fields import Duration, Policy

__all__ = (
    "CodecName",
    "Dialect",
    "Kind",
    "PathPattern",
    "Route",
    "RouteMatchPolicy",
    "RoutePolicy",
    "Rule",
    "check_pattern",
)

Kind = Literal["infer", "stream", "metadata", "health", "control", "other"]
"""What a call is for: it decides what may be done with it (batched, cached, retried, shed first)."""

Dialect = Literal["kserve", "openai"]
"""How a protocol spells an error: ``{"error": "…"}`` or ``{"error": {"message": "…", …}}``."""

CodecName = Literal[
    "auto",
    "off",
    "kserve_v1",
    "open_inference",
    "tf_serving",
    "tf_serving_examples",
    "torchserve",
    "mlflow",
    "openai_embeddings",
    "openai_completions",
    "tei_embed",
    "tei_predict",
    "tei_rerank",
]
"""What an operator may say of a route's bodies; names of codecs (`batching.codecs`)."""

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """The calls that a route wants: HTTP methods (none: any; GET includes HEAD) and a path pattern."""

    methods: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call goes and what it is.

    `rules` must all match: an operator's rule says where a call goes, its protocol's says what it is.
    `name` is the metric label. `dialect` is how Pillion words its own errors here. `codec` names the batching
    codec, None when calls of this route are never merged. `model_at` is set where a gRPC message names the
    model: the field numbers that lead to its name, outermost first. `idempotent` says that sending a call
    twice does no harm. `timeout_s` is the longest a call may take in all (infinite: the upstream's own
    timeouts decide).
    """

    name: str
    upstream: str
    protocol: str
    kind: Kind
    rules: tuple[Rule, ...]
    codec: str | None = None
    model_at: tuple[int, ...] = ()
    idempotent: bool = False
    timeout_s: float = math.inf
    dialect: Dialect = "kserve"


def check_pattern(pattern: str) -> str:
    """`pattern` itself when it is well formed; ValueError otherwise."""
    if not (pattern.startswith("/") or pattern == "*"):
        raise ValueError("a path pattern starts with /")
    if (
        "?" in pattern
        or "#" in pattern
        or not pattern.isascii()
        or not pattern.isprintable()
        or " " in pattern
    ):
        raise ValueError(
            "a path pattern is an encoded path: no query, no spaces, percent-encoding where needed"
        )
    if "*" in pattern[:-1]:
        raise ValueError("* stands for the rest of the path: it can only be last")
    names = _PLACE.findall(pattern)
    rest = _PLACE.sub("", pattern)
    if "{" in rest or "}" in rest or not all(map(_NAME.fullmatch, names)):
        raise ValueError("write {model}, {version} or another {name} in lower case")
    if len(set(names)) != len(names):
        raise ValueError("each {name} stands once in a pattern")
    if "}{" in pattern:
        raise ValueError("two {name}s need some text between them")
    return pattern


PathPattern = Annotated[str, AfterValidator(check_pattern)]
"""A path with ``{name}`` places and an optional final ``*``."""


class RouteMatchPolicy(Policy):
    """Which calls a route takes."""

    path: PathPattern
    """Path pattern: `{model}` is one path segment or a part of one, a final `*` is any rest."""
    method: Annotated[str, Field(pattern=r"^[A-Z][A-Z-]*$")] | None = None
    """HTTP method (`GET` includes `HEAD`); none: any."""


class RoutePolicy(Policy):
    """Where some calls go, before the protocols' own routes are asked."""

    match: RouteMatchPolicy
    """Which calls this route takes."""
    upstream: str
    """Name of the upstream that answers them."""
    timeout: Duration | None = None
    """Longest span per call, from its first byte in to its last byte out; none: the upstream's timeouts
    decide."""
    codec: CodecName = "auto"
    """How POSTs of this route are merged: `auto` as the upstream's protocol says, `off` not at all, or by the
    form of their bodies, for paths of one's own. `openai_completions` is never chosen by itself: a server
    that samples may draw other texts for a batch."""
