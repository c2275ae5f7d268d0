"""Which method a path stands for, and what becomes of statuses and fields."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from proxy.bridging.answers import server_metadata
from proxy.bridging.translation import Translation, metadata, rest_answer, translate
from proxy.errors import BadReply, BadRequest, RouteNotFound
from proxy.protobuf.framing import frame
from tests.support.inference_messages import inference

if TYPE_CHECKING:
    from proxy.exchange import Headers

SERVICE = b"/inference.GRPCInferenceService/"
INFER = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1]}]}).encode()
OK: Headers = ((b"grpc-status", b"0"),)


@pytest.mark.parametrize(
    ("method", "path", "rpc", "message"),
    [
        (b"GET", b"/v2", b"ServerMetadata", b""),
        (b"HEAD", b"/v2?x=1", b"ServerMetadata", b""),
        (b"GET", b"/v2/", b"ServerMetadata", b""),
        (b"GET", b"/v2/health/live", b"ServerLive", b""),
        (b"GET", b"/v2/health/ready", b"ServerReady", b""),
        (b"GET", b"/v2/models/m", b"ModelMetadata", b"\x0a\x01m"),
        (b"GET", b"/v2/models/a%20b/versions/3", b"ModelMetadata", b"\x0a\x03a b\x12\x013"),
        (b"GET", b"/v2/models/m/ready", b"ModelReady", b"\x0a\x01m"),
        (b"POST", b"/v2/repository/index", b"RepositoryIndex", b""),
        (b"GET", b"/v2/models/m/config", b"ModelConfig", b"\x0a\x01m"),
        (b"GET", b"/v2/models/m/versions/3/config", b"ModelConfig", b"\x0a\x01m\x12\x013"),
        (b"GET", b"/v2/models/stats", b"ModelStatistics", b""),
        (b"GET", b"/v2/models/m/stats", b"ModelStatistics", b"\x0a\x01m"),
        (b"POST", b"/v2/repository/models/a%20b/load", b"RepositoryModelLoad", b"\x12\x03a b"),
        (b"POST", b"/v2/repository/models/m/unload", b"RepositoryModelUnload", b"\x12\x01m"),
        (b"GET", b"/v2/logging", b"LogSettings", b""),
        (b"GET", b"/v2/trace/setting", b"TraceSetting", b""),
        (b"POST", b"/v2/models/m/trace/setting", b"TraceSetting", b"\x12\x01m"),
    ],
)
def test_a_path_stands_for_a_method(method: bytes, path: bytes, rpc: bytes, message: bytes) -> None:
    found = translate(method, path, b"", ())
    assert (found.path, found.message, found.body) == (SERVICE + rpc, message, frame(message))


def test_inference() -> None:
    found = translate(b"POST", b"/v2/models/m/versions/3/infer", INFER, ((b"content-encoding", b"identity"),))
    request = inference.ModelInferRequest.FromString(found.message)
    assert (found.path, request.model_name, request.model_version) == (SERVICE + b"ModelInfer", "m", "3")
    answer = found.render(inference.ModelInferResponse(model_name="m").SerializeToString())
    assert json.loads(answer.body) == {"model_name": "m", "outputs": []}


def test_a_compressed_request_is_read() -> None:
    encoded = (b"content-encoding", b"gzip")
    found = translate(b"POST", b"/v2/models/m/infer", gzip.compress(INFER), (encoded,))
    assert found == translate(b"POST", b"/v2/models/m/infer", INFER, ())._replace(render=found.render)
    assert metadata((encoded,)) == metadata(())


def test_readiness_names_the_model() -> None:
    answer = translate(b"GET", b"/v2/models/m/ready", b"", ()).render(b"\x08\x01")
    assert json.loads(answer.body) == {"name": "m", "ready": True}


def test_the_index_of_what_is_ready() -> None:
    assert translate(b"POST", b"/v2/repository/index", b'{"ready": true}', ()).message == b"\x10\x01"
    with pytest.raises(BadRequest):
        translate(b"POST", b"/v2/repository/index", b"[]", ())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"POST", b"/v2/models/m/generate"),
        (b"POST", b"/v2/models/m/config"),
        (b"GET", b"/v2/repository/models/m/load"),
        (b"GET", b"/v2/systemsharedmemory/status"),
        (b"GET", b"/v2/models/m/infer"),
        (b"POST", b"/v2/models/m"),
        (b"GET", b"/v1/models"),
        (b"DELETE", b"/v2"),
    ],
)
def test_a_path_without_a_method_is_refused_with_the_reason(method: bytes, path: bytes) -> None:
    with pytest.raises(RouteNotFound, match="only gRPC endpoints"):
        translate(method, path, b"", ())


@pytest.mark.parametrize("body", [b"{", b"{}", INFER.replace(b"[1]}", b"[1000]}")])
def test_a_body_that_cannot_be_translated(body: bytes) -> None:
    with pytest.raises(BadRequest, match="cannot be translated"):
        translate(b"POST", b"/v2/models/m/infer", body, ())


@pytest.mark.parametrize(
    ("path", "headers"),
    [(b"/v2/models/m/infer", ((b"Content-Encoding", b"gzip"),)), (b"/v2/models/%ff/infer", ())],
)
def test_what_cannot_be_read_is_refused(path: bytes, headers: Headers) -> None:
    with pytest.raises(BadRequest):
        translate(b"POST", path, INFER, headers)


def test_fields_become_metadata_where_they_can() -> None:
    headers = (
        (b"Host", b"h"),
        (b"Authorization", b"Bearer t"),
        (b"Content-Type", b"application/json"),
        (b"Accept-Encoding", b"gzip"),
        (b"grpc-timeout", b"1S"),
        (b"x-data-bin", b"raw"),
        (b"x-name", "é".encode()),
    )
    assert metadata(headers) == (
        (b"content-type", b"application/grpc"),
        (b"Host", b"h"),
        (b"Authorization", b"Bearer t"),
    )


def answered(
    status: int, headers: Headers = (), body: bytes = b"", trailers: Headers = ()
) -> tuple[int, object, Headers]:
    asked = Translation(b"/s/m", b"", server_metadata)
    answer = rest_answer(asked, status, headers, body, trailers)
    return answer.status, json.loads(answer.body), answer.headers


def test_an_answer_keeps_its_metadata() -> None:
    headers = ((b"content-type", b"application/grpc"), (b"x-a", b"1"), (b"grpc-encoding", b"identity"))
    trailers = (*OK, (b"x-b", b"2"))
    status, _, found = answered(200, headers, frame(b""), trailers)
    assert status == 200
    assert found == ((b"content-type", b"application/json"), (b"x-a", b"1"), (b"x-b", b"2"))


@pytest.mark.parametrize(
    ("code", "status"),
    [(3, 400), (5, 404), (7, 403), (8, 429), (9, 400), (12, 501), (13, 500), (14, 503), (16, 401), (99, 500)],
)
def test_a_status_becomes_an_error(code: int, status: int) -> None:
    fields = ((b"grpc-status", b"%d" % code), (b"grpc-message", b"because %25"))
    assert answered(200, fields)[:2] == (status, {"error": "because %"})
    assert answered(200, (), b"", fields)[:2] == (status, {"error": "because %"})


def test_a_status_without_words() -> None:
    assert answered(200, ((b"grpc-status", b"14"),))[1] == {
        "error": "the backend answered with gRPC status 14"
    }
    assert answered(502)[:2] == (502, {"error": "the backend answered with gRPC status none"})


def test_push_back_becomes_retry_after() -> None:
    fields = ((b"grpc-status", b"14"), (b"grpc-retry-pushback-ms", b"1200"))
    assert (b"Retry-After", b"2") in answered(200, fields)[2]
    assert not [name for name, _ in answered(200, ((b"grpc-status", b"14"),))[2] if name == b"Retry-After"]


@pytest.mark.parametrize("body", [b"", frame(b"\x0a"), b"\1" + frame(b"")[1:]])
def test_an_answer_that_cannot_be_read_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        answered(200, (), body, OK)
