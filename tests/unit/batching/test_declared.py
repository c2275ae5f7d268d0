"""The batch limit that a backend declares."""

from __future__ import annotations

import pytest

from proxy.batching.declared import ask_batch_limit
from proxy.exchange import Call, Headers, Reply, Stream
from proxy.protobuf.framing import frame
from tests.support.inference_messages import inference


class Backend:
    """Gives one answer; remembers what it was asked."""

    def __init__(self, status: int, body: bytes | Stream) -> None:
        self.reply = Reply(status, (), body)
        self.asked: list[Call] = []

    async def exchange(self, call: Call) -> Reply:
        self.asked.append(call)
        return self.reply


def infer(target: bytes = b"/v2/models/m/versions/3/infer?x=1") -> Call:
    headers = ((b"Host", b"h"), (b"Authorization", b"Bearer t"), (b"Content-Type", b"application/json"))
    return Call(b"POST", target, headers, b"{}")


@pytest.mark.parametrize(
    ("status", "body", "limit"),
    [
        (200, b'{"name":"m","max_batch_size":32}', 32),
        (200, b'{"max_batch_size":0}', 0),
        (200, b'{"name":"m"}', None),
        (200, b'{"max_batch_size":-1}', None),
        (200, b'{"max_batch_size":"many"}', None),
        (200, b"<html>", None),
        (404, b'{"max_batch_size":5}', None),
    ],
)
async def test_what_the_configuration_says(status: int, body: bytes, limit: int | None) -> None:
    backend = Backend(status, body)
    assert await ask_batch_limit(backend, infer()) == limit
    (question,) = backend.asked
    assert (question.method, question.target) == (b"GET", b"/v2/models/m/versions/3/config")
    assert question.headers == ((b"Host", b"h"), (b"Authorization", b"Bearer t"))


@pytest.mark.parametrize("name", [b"embed", b"embed_all", b"embed_sparse", b"predict", b"rerank"])
async def test_what_an_embedding_server_takes_from_one_client(name: bytes) -> None:
    backend = Backend(200, b'{"model_id":"m","max_client_batch_size":32,"max_batch_requests":null}')
    assert await ask_batch_limit(backend, infer(b"/tei/" + name)) == 32
    assert [question.target for question in backend.asked] == [b"/tei/info"]


async def test_a_configuration_that_arrives_in_pieces() -> None:
    body = Stream(None)
    body.feed(b'{"max_batch')
    body.feed(b'_size": 7}')
    body.end()
    assert await ask_batch_limit(Backend(200, body), infer()) == 7


async def test_an_endless_configuration_is_not_read_to_its_end() -> None:
    body = Stream(None)
    body.feed(b"x" * (2 << 20))
    assert await ask_batch_limit(Backend(200, body), infer()) is None


async def test_other_paths_and_transports_are_not_asked_about() -> None:
    backend = Backend(200, b'{"max_batch_size":32}')
    assert await ask_batch_limit(backend, infer(b"/v1/models/m:predict")) is None
    grpc = infer()
    grpc.is_grpc = True
    assert await ask_batch_limit(backend, grpc) is None
    assert backend.asked == []


OK = ((b"grpc-status", b"0"),)
MESSAGE = frame(b"\x0a\x01m\x12\x013")


def model_infer(body: bytes | Stream = MESSAGE) -> Call:
    call = Call(
        b"POST", b"/inference.GRPCInferenceService/ModelInfer", ((b"host", b"h"), (b"te", b"trailers")), body
    )
    call.is_grpc = True
    return call


def config(items: int) -> bytes:
    answer = inference.ModelConfigResponse(config={"name": "m", "max_batch_size": items})
    return frame(answer.SerializeToString())


@pytest.mark.parametrize(
    ("body", "trailers", "limit"),
    [
        (config(8), OK, 8),
        (config(0), OK, 0),
        (frame(b""), OK, None),
        (frame(b"\x0a"), OK, None),
        (b"", ((b"grpc-status", b"12"),), None),
        (config(8), (), None),
    ],
)
async def test_what_the_configuration_says_over_grpc(
    body: bytes, trailers: Headers, limit: int | None
) -> None:
    for answer in (body, streamed(body, trailers)):
        backend = Backend(200, answer)
        backend.reply.trailers = trailers
        assert await ask_batch_limit(backend, model_infer()) == limit
        (question,) = backend.asked
        assert question.is_grpc
        assert (question.method, question.target) == (b"POST", b"/inference.GRPCInferenceService/ModelConfig")
        assert question.headers == ((b"host", b"h"), (b"content-type", b"application/grpc"))
        assert question.body == MESSAGE


def streamed(body: bytes, trailers: Headers) -> Stream:
    stream = Stream(None)
    stream.feed(body)
    stream.end(trailers)
    return stream


async def test_other_methods_and_streams_have_no_configuration() -> None:
    backend = Backend(200, b"")
    other = model_infer()
    other.target = b"/tensorflow.serving.PredictionService/Predict"
    assert await ask_batch_limit(backend, other) is None
    assert await ask_batch_limit(backend, model_infer(Stream(None))) is None
    assert backend.asked == []
