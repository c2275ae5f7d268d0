"""The walk along the request path: what each room would do, in the words of the whole proxy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from proxy.app import explain
from proxy.config.load import load_text
from proxy.explain.explainer import _outcome
from proxy.explain.request import Described

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = "version: 1\nupstreams:\n  model: {protocol: kserve-v1, http: ['http://127.0.0.1:1']}\n"
PREDICT = Described("POST", "/v1/models/digits:predict", (), b'{"instances":[[1,2]]}')


def explained(described: Described, rest: str = "", head: str = HEAD) -> dict[str, Any]:
    return explain(load_text(head + rest, "test.yaml"), described)


def test_an_inference_request_is_batched_and_the_key_is_shown() -> None:
    found = explained(PREDICT)
    assert found["route"] == {
        "name": "kserve-v1/predict",
        "matched": ["POST /v1/models/{model}:predict"],
        "tried_before": 0,
        "protocol": "kserve-v1",
        "kind": "infer",
        "idempotent": True,
        "model": "digits",
        "version": None,
        "settings_of": ["*"],
    }
    assert found["upstream"]["endpoints"] == [
        {"endpoint": "http://127.0.0.1:1", "health": "starting", "why": "", "ejected": False}
    ]
    assert found["deadline"] == {"span_s": None, "set_by": "nobody", "first_byte_s": 60, "silence_s": 300}
    assert found["cache"] == {"looked_up": False, "why": "off"}
    assert found["loading"] == {"model": "digits", "managed": False}
    assert found["batch"]["merged"]
    assert found["batch"]["key"]["headers"]["host"] == "localhost"
    assert found["outcome"] == "batched with requests of the same key"
    assert found["proxy"] == {"state": "starting", "in_flight": 0}


def test_an_operators_route_names_its_pattern_and_sets_the_deadline() -> None:
    rest = "routes: [{match: {path: '/v1/*'}, upstream: model, timeout: 30s}]\n"
    found = explained(PREDICT, rest)
    assert found["route"]["matched"] == ["any /v1/*", "POST /v1/models/{model}:predict"]
    assert found["deadline"]["span_s"] == 30
    assert found["deadline"]["set_by"] == "route"
    hasty = explained(PREDICT._replace(fields=("X-Request-Timeout: 2s",)), rest)
    assert (hasty["deadline"]["span_s"], hasty["deadline"]["set_by"]) == (2, "client")


def test_the_most_specific_settings_are_named_last() -> None:
    rest = "models: {'dig*': {batch: {mode: 'off'}}, 'other': {}}\n"
    found = explained(PREDICT, rest)
    assert found["route"]["settings_of"] == ["*", "dig*"]
    assert found["batch"] == {"merged": False, "why": "off"}
    assert found["outcome"] == "forwarded alone: off"


def test_a_deterministic_model_is_looked_up() -> None:
    found = explained(PREDICT, "models: {'*': {cache: {mode: deterministic}}}\n")
    assert found["cache"]["verdict"] == "miss"
    assert found["cache"]["key"]["model"] == "digits"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda it: it._replace(url="/v1/models/a:explain"), "no_codec"),
        (lambda it: it._replace(fields=("Pillion-Batch: off",)), "unwished"),
        (lambda it: it._replace(body=b"{"), "not_json"),
        (lambda it: it._replace(body=b'{"instances":[' + b"1," * 600 + b"1]}"), "streamed_body"),
    ],
)
def test_why_a_request_is_forwarded_alone(change: Callable[[Described], Described], why: str) -> None:
    found = explained(change(PREDICT), "models: {'*': {batch: {max_bytes: 1KiB}}}\n")
    assert not found["batch"]["merged"]
    assert found["batch"]["why"] == why
    assert found["outcome"] == f"forwarded alone: {why}"


@pytest.mark.parametrize(
    ("described", "status", "sections"),
    [
        (PREDICT._replace(url="/v1/models/a#b"), 400, {"proxy", "refused", "outcome"}),
        (
            PREDICT._replace(fields=("X-Request-Timeout: soon",)),
            400,
            {"proxy", "route", "refused", "outcome"},
        ),
        (PREDICT._replace(method="TRACE"), 405, {"proxy", "refused", "outcome"}),
    ],
)
def test_what_is_refused_ends_there(described: Described, status: int, sections: set[str]) -> None:
    found = explained(described)
    assert set(found) == sections
    assert found["refused"]["status"] == status
    assert found["outcome"].startswith(f"answered {status} by Pillion: ")


def test_callers_are_asked_who_they_are() -> None:
    digest = hashlib.sha256(b"key").hexdigest()
    rest = f"server: {{auth: {{keys: ['{digest}']}}}}\n"
    assert explained(PREDICT, rest)["refused"]["status"] == 401
    known = explained(PREDICT._replace(fields=("Authorization: Bearer key",)), rest)
    assert known["batch"]["merged"]


def test_the_host_is_the_one_that_is_sent_upstream() -> None:
    head = HEAD.replace("http: [", "host: fixed, http: [")
    assert explained(PREDICT, "", head)["batch"]["key"]["headers"]["host"] == "fixed"


def test_the_model_may_be_named_in_the_body() -> None:
    embedding = Described("POST", "/v1/embeddings", (), b'{"model":"small","input":"x"}')
    head = HEAD.replace("kserve-v1", "openai")
    found = explained(embedding, "models: {small: {batch: {mode: 'off'}}}\n", head)
    assert (found["route"]["model"], found["route"]["settings_of"]) == ("small", ["*", "small"])


@pytest.mark.parametrize(
    ("cache", "loading", "words"),
    [
        ({"verdict": "hit"}, {}, "answered from memory"),
        ({"verdict": "stale"}, {}, "answered from memory, stale, and renewed afterwards"),
        ({"verdict": "collapsed"}, {}, "given the answer to an equal request that is on its way"),
        (
            {"verdict": "miss"},
            {"waits": True, "ready_in_s": 1.5},
            "held for about 1500ms until its model is loaded, then forwarded alone: off",
        ),
        (
            {},
            {"model": "a", "refused": {"reason": "full"}, "fallback": None},
            "refused: model a cannot be ready in time (full)",
        ),
        ({}, {"model": "a", "refused": {"reason": "full"}, "fallback": "b"}, "redirected to model b"),
    ],
)
def test_what_comes_of_it_in_words(cache: dict[str, object], loading: dict[str, object], words: str) -> None:
    assert _outcome(cache, loading, {"merged": False, "why": "off"}) == words


def test_what_is_translated_is_explained_in_the_form_in_which_it_is_merged() -> None:
    head = "version: 1\nupstreams:\n  model: {protocol: open-inference, grpc: ['127.0.0.1:1']}\n"
    tensor = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1.5]}]}'
    found = explained(Described("POST", "/v2/models/digits/infer", (), tensor), "", head)
    assert (found["batch"]["merged"], found["batch"]["key"]["codec"]) == (True, "open_inference_grpc")


def test_a_grpc_call_is_one_by_its_media_type() -> None:
    call = Described(
        "POST", "/inference.GRPCInferenceService/ModelInfer", ("content-type: application/grpc",)
    )
    found = explained(call, "", HEAD.replace("http: [", "grpc: ['127.0.0.1:2'], http: ["))
    assert "refused" not in found
    assert found["upstream"]["name"] == "model"
