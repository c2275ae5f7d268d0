"""The protocols that Pillion knows, as data: their paths, what each is for, how each is batched.

A preset describes a published protocol, never one server: what a path means, not how fast it is. Whatever a
preset does not list is still forwarded, by its final catch-all, so an unlisted path costs a feature and
never an answer.

`routes_of` turns a configuration into the one ordered list that the route table obeys:

1. the operator's routes, in file order. Such a route says where a call goes and how long it may take; what
   the call *is* still comes from the protocol, so each is paired with every route of its upstream's
   protocol first and stands alone (kind ``other``) last;
2. the protocols' routes, upstream after upstream in file order;
3. one catch-all, to the first ``generic`` upstream if there is one and else to the first upstream.

Sources: KServe V1 (``/v1/models/{model}:predict``), the Open Inference Protocol (``/v2/…``, with the model
repository extension) over REST and gRPC, TensorFlow Serving over both, the OpenAI REST paths that inference
servers share, the APIs of Ollama and TorchServe, Text Embeddings Inference, MLflow's scoring server. RFC 9110
§9.2.2 says which methods are idempotent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from proxy.routing.policy import Dialect, Kind, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.model import Config, UpstreamConfig
    from proxy.routing.policy import RoutePolicy

__all__ = ("PROTOCOLS", "Protocol", "ProtocolName", "is_bridged", "protocol_routes", "routes_of")

ProtocolName = Literal[
    "kserve-v1",
    "open-inference",
    "tf-serving",
    "torchserve",
    "openai",
    "tei",
    "mlflow",
    "ollama",
    "generic",
]


@dataclass(frozen=True, slots=True)
class Preset:
    """One path of a protocol; `dialect` where it spells errors otherwise than the rest."""

    name: str
    method: str
    path: str
    kind: Kind
    codec: str | None = None
    idempotent: bool = True
    model_at: tuple[int, ...] = ()
    dialect: Dialect | None = None

    @property
    def rule(self) -> Rule:
        """What the path matches."""
        return Rule((self.method,), self.path)


def _rpc(path: str, kind: Kind, model_at: tuple[int, ...] = (), codec: str | None = None) -> Preset:
    """A gRPC method, whose route has its name."""
    method = path.rpartition("/")[2]
    is_idempotent = kind not in {"control", "stream"}
    return Preset(method, "POST", path, kind, codec, idempotent=is_idempotent, model_at=model_at)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is known of a protocol: paths in matching order, where health is asked, how errors are spelt.

    `health_path` None means that an accepted connection is all the health there is to see.
    """

    routes: tuple[Preset, ...]
    health_path: str | None
    dialect: Dialect
    methods: tuple[Preset, ...] = ()
    """Its gRPC form, for upstreams that have `grpc`."""


def _open_inference_model(base: str) -> tuple[Preset, ...]:
    """The paths below one model; the protocol repeats them below a version."""
    return (
        Preset("infer", "POST", f"{base}/infer", "infer", "open_inference"),
        Preset("generate", "POST", f"{base}/generate", "infer"),
        Preset("generate_stream", "POST", f"{base}/generate_stream", "stream"),
        Preset("model_ready", "GET", f"{base}/ready", "health"),
        Preset("model_config", "GET", f"{base}/config", "metadata"),
        Preset("model_stats", "GET", f"{base}/stats", "other"),
        Preset("model_metadata", "GET", base, "metadata"),
    )


_KSERVE_V1 = (
    Preset("predict", "POST", "/v1/models/{model}:predict", "infer", "kserve_v1"),
    Preset("explain", "POST", "/v1/models/{model}:explain", "infer"),
    Preset("model_list", "GET", "/v1/models", "metadata"),
    Preset("model_metadata", "GET", "/v1/models/{model}", "metadata"),
)

_OPEN_INFERENCE = (
    *_open_inference_model("/v2/models/{model}"),
    *_open_inference_model("/v2/models/{model}/versions/{version}"),
    Preset("live", "GET", "/v2/health/live", "health"),
    Preset("ready", "GET", "/v2/health/ready", "health"),
    Preset("server_metadata", "GET", "/v2", "metadata"),
    Preset("repository_index", "POST", "/v2/repository/index", "metadata"),
    Preset("repository_load", "POST", "/v2/repository/models/{model}/load", "control", idempotent=False),
    Preset("repository_unload", "POST", "/v2/repository/models/{model}/unload", "control", idempotent=False),
)

_INFERENCE = "/inference.GRPCInferenceService"
_MLSERVER_REPOSITORY = "/inference.model_repository.ModelRepositoryService"


def _repository_methods(service: str) -> tuple[Preset, ...]:
    return (
        _rpc(f"{service}/RepositoryIndex", "metadata"),
        _rpc(f"{service}/RepositoryModelLoad", "control", (2,)),
        _rpc(f"{service}/RepositoryModelUnload", "control", (2,)),
    )


_OPEN_INFERENCE_GRPC = (
    _rpc(f"{_INFERENCE}/ModelInfer", "infer", (1,), "open_inference_grpc"),
    _rpc(f"{_INFERENCE}/ModelStreamInfer", "stream"),
    _rpc(f"{_INFERENCE}/ServerLive", "health"),
    _rpc(f"{_INFERENCE}/ServerReady", "health"),
    _rpc(f"{_INFERENCE}/ModelReady", "health", (1,)),
    _rpc(f"{_INFERENCE}/ServerMetadata", "metadata"),
    _rpc(f"{_INFERENCE}/ModelMetadata", "metadata", (1,)),
    _rpc(f"{_INFERENCE}/ModelConfig", "metadata", (1,)),
    _rpc(f"{_INFERENCE}/ModelStatistics", "other", (1,)),
    *_repository_methods(_INFERENCE),
    *_repository_methods(_MLSERVER_REPOSITORY),
)


def _tf_serving_model(base: str) -> tuple[Preset, ...]:
    """The paths below one model; the protocol repeats them below a version and below a label."""
    return (
        Preset("predict", "POST", f"{base}:predict", "infer", "tf_serving"),
        Preset("classify", "POST", f"{base}:classify", "infer", "tf_serving_examples"),
        Preset("regress", "POST", f"{base}:regress", "infer", "tf_serving_examples"),
        Preset("model_metadata", "GET", f"{base}/metadata", "metadata"),
        Preset("model_status", "GET", base, "health"),
    )


_TF_SERVING = (
    *_tf_serving_model("/v1/models/{model}/versions/{version}"),
    *_tf_serving_model("/v1/models/{model}/labels/{label}"),
    *_tf_serving_model("/v1/models/{model}"),
)

_PREDICTION = "/tensorflow.serving.PredictionService"
_TF_SERVING_GRPC = (
    _rpc(f"{_PREDICTION}/Predict", "infer", (1, 1), "tf_serving_grpc"),
    _rpc(f"{_PREDICTION}/Classify", "infer", (1, 1)),
    _rpc(f"{_PREDICTION}/Regress", "infer", (1, 1)),
    _rpc(f"{_PREDICTION}/MultiInference", "infer", (1, 1, 1)),
    _rpc(f"{_PREDICTION}/GetModelMetadata", "metadata", (1, 1)),
    _rpc("/tensorflow.serving.ModelService/GetModelStatus", "health", (1, 1)),
)

_OPENAI = (
    Preset("embeddings", "POST", "/v1/embeddings", "infer", "openai_embeddings"),
    Preset("chat_completions", "POST", "/v1/chat/completions", "stream"),
    Preset("completions", "POST", "/v1/completions", "stream"),
    Preset("model_list", "GET", "/v1/models", "metadata"),
    Preset("model_metadata", "GET", "/v1/models/{model}", "metadata"),
)

_MLFLOW = (
    Preset("invocations", "POST", "/invocations", "infer", "mlflow"),
    Preset("ping", "GET", "/ping", "health"),
    Preset("health", "GET", "/health", "health"),
    Preset("version", "GET", "/version", "metadata"),
)

_OLLAMA = (
    Preset("generate", "POST", "/api/generate", "stream"),
    Preset("chat", "POST", "/api/chat", "stream"),
    Preset("embed", "POST", "/api/embed", "infer"),
    Preset("embeddings", "POST", "/api/embeddings", "infer"),
    Preset("model_list", "GET", "/api/tags", "metadata"),
    Preset("running", "GET", "/api/ps", "other"),
    Preset("version", "GET", "/api/version", "health"),
    *(replace(preset, dialect="openai") for preset in _OPENAI),
)

_TORCHSERVE = (
    Preset("predict", "POST", "/predictions/{model}", "infer", "torchserve"),
    Preset("predict_version", "POST", "/predictions/{model}/{version}", "infer", "torchserve"),
    Preset("ping", "GET", "/ping", "health"),
)

_TEI = (
    Preset("embed", "POST", "/embed", "infer", "tei_embed"),
    Preset("embed_all", "POST", "/embed_all", "infer", "tei_embed"),
    Preset("embed_sparse", "POST", "/embed_sparse", "infer", "tei_embed"),
    Preset("predict", "POST", "/predict", "infer", "tei_predict"),
    Preset("rerank", "POST", "/rerank", "infer", "tei_rerank"),
    Preset("embeddings", "POST", "/v1/embeddings", "infer", "openai_embeddings"),
    Preset("similarity", "POST", "/similarity", "infer"),
    Preset("tokenize", "POST", "/tokenize", "other"),
    Preset("decode", "POST", "/decode", "other"),
    Preset("info", "GET", "/info", "metadata"),
    Preset("health", "GET", "/health", "health"),
)

PROTOCOLS: dict[ProtocolName, Protocol] = {
    "kserve-v1": Protocol(_KSERVE_V1, "/v1/models", "kserve"),
    "open-inference": Protocol(_OPEN_INFERENCE, "/v2/health/ready", "kserve", _OPEN_INFERENCE_GRPC),
    "tf-serving": Protocol(_TF_SERVING, None, "kserve", _TF_SERVING_GRPC),
    "openai": Protocol(_OPENAI, "/v1/models", "openai"),
    "ollama": Protocol(_OLLAMA, "/api/version", "kserve"),
    "torchserve": Protocol(_TORCHSERVE, "/ping", "kserve"),
    "tei": Protocol(_TEI, "/health", "kserve"),
    "mlflow": Protocol(_MLFLOW, "/health", "kserve"),
    "generic": Protocol((), None, "kserve"),
}

_MERGEABLE = frozenset({"infer", "stream"})
_IDEMPOTENT_METHODS = ("GET", "OPTIONS", "PUT", "DELETE", "TRACE")  # RFC 9110 §9.2.2; GET includes HEAD


def is_bridged(upstream: UpstreamConfig) -> bool:
    """Whether REST calls to `upstream` are translated to gRPC, since it takes nothing else."""
    return upstream.protocol == "open-inference" and bool(upstream.grpc) and not upstream.http


def protocol_routes(name: str, upstream: UpstreamConfig) -> tuple[Route, ...]:
    """The routes that the upstream called `name` gets from its protocol, without the catch-all.

    What is translated on its way is merged in the form in which it goes upstream.
    """
    known = PROTOCOLS[upstream.protocol]
    merged_as = {"open_inference": "open_inference_grpc"} if is_bridged(upstream) else {}
    return tuple(
        Route(
            name=f"{upstream.protocol}/{preset.name}",
            upstream=name,
            protocol=upstream.protocol,
            kind=preset.kind,
            rules=(preset.rule,),
            codec=merged_as.get(preset.codec or "", preset.codec),
            model_at=preset.model_at,
            idempotent=preset.idempotent,
            dialect=preset.dialect or known.dialect,
        )
        for preset in (*known.routes, *(known.methods if upstream.grpc else ()))
    )


def routes_of(config: Config) -> tuple[Route, ...]:
    """Every route of `config`, in the order in which they are to be tried."""
    return (*_operator_routes(config), *_preset_routes(config), *_catch_all(config))


def _operator_routes(config: Config) -> Iterator[Route]:
    for policy in config.routes:
        upstream = config.upstreams[policy.upstream]
        protocol, dialect = upstream.protocol, PROTOCOLS[upstream.protocol].dialect
        rule = Rule(() if policy.match.method is None else (policy.match.method,), policy.match.path)
        timeout_s = math.inf if policy.timeout is None else policy.timeout
        for route in protocol_routes(policy.upstream, upstream):
            codec = _codec(policy, route)
            yield replace(route, name=rule.path, rules=(rule, *route.rules), codec=codec, timeout_s=timeout_s)
        if policy.codec not in {"auto", "off"}:
            rules = (rule, Rule(("POST",), "*"))
            route = Route(rule.path, policy.upstream, protocol, "infer", rules, codec=policy.codec)
            yield replace(route, idempotent=True, timeout_s=timeout_s, dialect=dialect)
        route = Route(rule.path, policy.upstream, protocol, "other", (rule,))
        yield from _by_method(replace(route, timeout_s=timeout_s, dialect=dialect))


def _codec(policy: RoutePolicy, route: Route) -> str | None:
    """How calls of the protocol's `route` are merged where an operator's route takes them."""
    if policy.codec == "auto" or route.kind not in _MERGEABLE or route.model_at:
        return route.codec
    return None if policy.codec == "off" else policy.codec


def _preset_routes(config: Config) -> Iterator[Route]:
    for name, upstream in config.upstreams.items():
        if upstream.takes_calls:
            yield from protocol_routes(name, upstream)


def _catch_all(config: Config) -> Iterator[Route]:
    names = [name for name, upstream in config.upstreams.items() if upstream.takes_calls]
    if not names:
        return
    generic = [name for name in names if config.upstreams[name].protocol == "generic"]
    upstream = (generic or names)[0]
    protocol = config.upstreams[upstream].protocol
    route = Route(f"{protocol}/other", upstream, protocol, "other", (Rule((), "*"),))
    yield from _by_method(replace(route, dialect=PROTOCOLS[protocol].dialect))


def _by_method(route: Route) -> tuple[Route, Route]:
    """`route` for the methods that may be repeated, and for the others."""
    return replace(route, rules=(*route.rules, Rule(_IDEMPOTENT_METHODS, "*")), idempotent=True), route
