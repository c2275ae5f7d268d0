from __future__ import annotations

import math
from typing import get_args

import pytest

from proxy.batching.codecs import CODECS
from proxy.config.load import load_text
from proxy.config.presets import PROTOCOLS, routes_of
from proxy.routing.policy import CodecName, check_pattern
from proxy.routing.table import Match, RouteTable


def table(upstreams: str, routes: str = "[]") -> RouteTable:
    return RouteTable(
        routes_of(load_text(f"version: 1\nupstreams: {upstreams}\nroutes: {routes}", "f").config)
    )


def match(protocol: str, request: str) -> Match:
    method, _, target = request.partition(" ")
    return table(f"{{m: {{protocol: {protocol}, http: [http://a]}}}}").match(method.encode(), target.encode())


@pytest.mark.parametrize(
    ("protocol", "request_line", "kind", "codec", "model", "version"),
    [
        ("kserve-v1", "POST /v1/models/a:predict", "infer", "kserve_v1", "a", None),
        ("kserve-v1", "POST /v1/models/a%2Fb:c:predict", "infer", "kserve_v1", "a/b:c", None),
        ("kserve-v1", "POST /v1/models/a:explain", "infer", None, "a", None),
        ("kserve-v1", "GET /v1/models", "metadata", None, "", None),
        ("kserve-v1", "HEAD /v1/models/a", "metadata", None, "a", None),
        ("kserve-v1", "POST /v1/models/a", "other", None, "", None),
        ("kserve-v1", "POST /v2/models/a/infer", "other", None, "", None),
        ("open-inference", "POST /v2/models/a/infer", "infer", "open_inference", "a", None),
        ("open-inference", "POST /v2/models/a/versions/3/infer", "infer", "open_inference", "a", "3"),
        ("open-inference", "POST /v2/models/a/generate_stream", "stream", None, "a", None),
        ("open-inference", "GET /v2/models/a/versions/3/ready", "health", None, "a", "3"),
        ("open-inference", "GET /v2/models/a/config", "metadata", None, "a", None),
        ("open-inference", "GET /v2/models/a", "metadata", None, "a", None),
        ("open-inference", "GET /v2", "metadata", None, "", None),
        ("open-inference", "GET /v2/health/live", "health", None, "", None),
        ("open-inference", "POST /v2/repository/index", "metadata", None, "", None),
        ("open-inference", "POST /v2/repository/models/a/load", "control", None, "a", None),
        ("open-inference", "POST /v2/repository/models/a/unload", "control", None, "a", None),
        ("openai", "POST /v1/embeddings", "infer", "openai_embeddings", "", None),
        ("openai", "POST /v1/completions", "stream", None, "", None),
        ("tei", "POST /embed", "infer", "tei_embed", "", None),
        ("tei", "POST /embed_sparse", "infer", "tei_embed", "", None),
        ("tei", "POST /predict", "infer", "tei_predict", "", None),
        ("tei", "POST /rerank", "infer", "tei_rerank", "", None),
        ("tei", "POST /v1/embeddings", "infer", "openai_embeddings", "", None),
        ("mlflow", "POST /invocations", "infer", "mlflow", "", None),
        ("openai", "POST /v1/chat/completions", "stream", None, "", None),
        ("torchserve", "POST /predictions/a/2", "infer", "torchserve", "a", "2"),
        ("mlflow", "GET /ping", "health", None, "", None),
        ("mlflow", "GET /version", "metadata", None, "", None),
        ("generic", "POST /v1/models/a:predict", "other", None, "", None),
        ("generic", "OPTIONS *", "other", None, "", None),
    ],
)
def test_what_a_request_is(
    protocol: str, request_line: str, kind: str, codec: str | None, model: str, version: str | None
) -> None:
    found = match(protocol, request_line)
    assert (found.route.kind, found.route.codec, found.model, found.version) == (kind, codec, model, version)
    assert (found.route.upstream, found.route.protocol, found.route.timeout_s) == ("m", protocol, math.inf)


@pytest.mark.parametrize(
    ("request_line", "is_idempotent"),
    [
        ("POST /v2/models/a/infer", True),
        ("POST /v2/repository/index", True),
        ("POST /v2/repository/models/a/load", False),
        ("GET /elsewhere", True),
        ("HEAD /elsewhere", True),
        ("DELETE /elsewhere", True),
        ("POST /elsewhere", False),
        ("PATCH /elsewhere", False),
        ("MADE-UP /elsewhere", False),
    ],
)
def test_what_may_be_sent_twice(request_line: str, is_idempotent: bool) -> None:
    assert match("open-inference", request_line).route.idempotent is is_idempotent


@pytest.mark.parametrize(
    ("protocol", "request_line", "dialect"),
    [
        ("kserve-v1", "POST /v1/models/a:predict", "kserve"),
        ("tf-serving", "POST /elsewhere", "kserve"),
        ("openai", "POST /v1/chat/completions", "openai"),
        ("openai", "POST /v1/responses", "openai"),
        ("ollama", "POST /api/chat", "kserve"),
        ("ollama", "POST /v1/chat/completions", "openai"),
    ],
)
def test_how_errors_are_worded(protocol: str, request_line: str, dialect: str) -> None:
    assert match(protocol, request_line).route.dialect == dialect


def test_an_operators_route_words_errors_as_its_protocol_does() -> None:
    upstreams = "{a: {protocol: kserve-v1, http: [http://a]}, b: {protocol: openai, http: [http://b]}}"
    routes = table(upstreams, "[{match: {path: '/b/*'}, upstream: b, codec: openai_embeddings}]")
    for request_line in ("POST /b/x", "GET /b/x"):
        method, target = request_line.encode().split()
        assert routes.match(method, target).route.dialect == "openai"


def test_presets_are_well_formed() -> None:
    for protocol in PROTOCOLS.values():
        names = [preset.name for preset in protocol.routes]
        assert len({preset.rule for preset in protocol.routes}) == len(names)
        for preset in protocol.routes:
            assert check_pattern(preset.path) == preset.path
            assert preset.codec is None or preset.kind == "infer"


def test_an_operators_route_says_where_and_how_long_the_protocol_says_what() -> None:
    routes = table(
        "{a: {protocol: kserve-v1, http: [http://a]}, b: {protocol: kserve-v1, http: [http://b]}}",
        "[{match: {path: '/v1/models/slow*'}, upstream: b, timeout: 5m}]",
    )
    slow = routes.match(b"POST", b"/v1/models/slow-one:predict")
    assert (slow.route.upstream, slow.route.timeout_s, slow.route.kind, slow.route.codec) == (
        "b",
        300.0,
        "infer",
        "kserve_v1",
    )
    assert slow.model == "slow-one"
    assert slow.route.name == "/v1/models/slow*"
    odd = routes.match(b"POST", b"/v1/models/slow/odd")
    assert (odd.route.upstream, odd.route.kind, odd.route.timeout_s) == ("b", "other", 300.0)
    quick = routes.match(b"POST", b"/v1/models/quick:predict")
    assert (quick.route.upstream, quick.route.timeout_s) == ("a", math.inf)


@pytest.mark.parametrize(
    ("codec", "request_line", "kind", "found"),
    [
        ("auto", "POST /v1/embeddings", "infer", "openai_embeddings"),
        ("off", "POST /v1/embeddings", "infer", None),
        ("openai_completions", "POST /v1/completions", "stream", "openai_completions"),
        ("openai_completions", "GET /v1/models", "metadata", None),
        ("kserve_v1", "POST /v1/my/own", "infer", "kserve_v1"),
        ("kserve_v1", "PUT /v1/my/own", "other", None),
        ("off", "POST /v1/my/own", "other", None),
    ],
)
def test_an_operators_route_may_say_how_to_merge(
    codec: str, request_line: str, kind: str, found: str | None
) -> None:
    routes = table(
        "{a: {protocol: openai, http: [http://a]}}",
        f"[{{match: {{path: '/v1/*'}}, upstream: a, codec: {codec}}}]",
    )
    method, _, target = request_line.partition(" ")
    route = routes.match(method.encode(), target.encode()).route
    assert (route.kind, route.codec) == (kind, found)
    assert route.idempotent is (found is not None or codec != "off" or kind != "other")


def test_an_operator_can_name_every_codec_of_a_body() -> None:
    named = set(get_args(CodecName)) - {"auto", "off"}
    assert named == {name for name in CODECS if not name.endswith("_grpc")}
    reached = {
        preset.codec for protocol in PROTOCOLS.values() for preset in (*protocol.routes, *protocol.methods)
    }
    assert set(CODECS) - reached == {"openai_completions"}


def test_a_route_for_one_method_leaves_the_others() -> None:
    routes = table(
        "{a: {http: [http://a]}, b: {http: [http://b]}}",
        "[{match: {path: '/x', method: POST}, upstream: b}]",
    )
    assert routes.match(b"POST", b"/x").route.upstream == "b"
    assert routes.match(b"GET", b"/x").route.upstream == "a"


def test_what_no_protocol_knows_goes_to_a_generic_upstream() -> None:
    both = table("{a: {protocol: openai, http: [http://a]}, b: {http: [http://b]}}")
    assert both.match(b"GET", b"/metrics").route.upstream == "b"
    assert both.match(b"GET", b"/v1/models").route.upstream == "a"
    neither = table("{a: {protocol: openai, http: [http://a]}, b: {protocol: kserve-v1, http: [http://b]}}")
    assert neither.match(b"GET", b"/metrics").route.upstream == "a"
    assert neither.match(b"POST", b"/v1/models/x:predict").route.upstream == "b"
