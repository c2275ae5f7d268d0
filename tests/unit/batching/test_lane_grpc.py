"""Lanes with gRPC calls: a status stands in the fields after the message, and means what its HTTP sibling means."""

from __future__ import annotations

import asyncio
import struct

import pytest

from proxy.exchange import Call, Headers, Reply, Stream
from proxy.protobuf.framing import frame
from tests.support.batching import Stage, Subject, infer_call, policy, turns
from tests.support.inference_messages import Proto, inference

TARGET = b"/inference.GRPCInferenceService/ModelInfer"
FIELDS: Headers = ((b"content-type", b"application/grpc"),)
OK: Headers = ((b"grpc-status", b"0"),)
SUBJECT = Subject("digits", "open_inference_grpc")
POISON = 13.0


def infer(*values: float, ident: str = "", headers: Headers = FIELDS) -> Call:
    request = inference.ModelInferRequest(model_name="digits", id=ident)
    request.inputs.add(name="x", datatype="FP32", shape=[len(values)])
    request.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    call = infer_call(TARGET, frame(request.SerializeToString()), headers)
    call.is_grpc = True
    return call


def values_of(call: Call) -> tuple[float, ...]:
    assert isinstance(call.body, bytes)
    (raw,) = inference.ModelInferRequest.FromString(call.body[5:]).raw_input_contents
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def doubled(call: Call, trailers: Headers = OK) -> Reply:
    """A model that doubles."""
    values = [2 * value for value in values_of(call)]
    answer = inference.ModelInferResponse(model_name="digits")
    answer.outputs.add(name="y", datatype="FP32", shape=[len(values)])
    answer.raw_output_contents.append(struct.pack(f"<{len(values)}f", *values))
    reply = Reply(200, (*FIELDS, (b"x-took", b"3")), frame(answer.SerializeToString()))
    reply.trailers = trailers
    return reply


def failing(code: int, text: bytes = b"no", *, trailers_only: bool = True) -> Reply:
    fields = ((b"grpc-status", b"%d" % code), (b"grpc-message", text))
    reply = Reply(200, FIELDS + fields if trailers_only else FIELDS)
    reply.trailers = () if trailers_only else fields
    return reply


def answer_of(reply: Reply) -> Proto:
    assert isinstance(reply.body, bytes)
    return inference.ModelInferResponse.FromString(reply.body[5:])


def numbers(reply: Reply) -> tuple[float, ...]:
    (raw,) = answer_of(reply).raw_output_contents
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def submit(stage: Stage, *calls: Call, **settings: object) -> list[asyncio.Task[Reply]]:
    rules = policy(**settings)
    return [stage.submit(call, rules, SUBJECT) for call in calls]


async def settled(stage: Stage, tasks: list[asyncio.Task[Reply]]) -> list[Reply]:
    stage.upstream.release_all()
    return await asyncio.gather(*tasks)


async def test_members_get_their_own_part_and_the_status(stage: Stage) -> None:
    stage.upstream.answer = lambda call: doubled(
        call, (*OK, (b"grpc-status-details-bin", b"eA"), (b"x-own", b"1"))
    )
    replies = await settled(stage, submit(stage, infer(1.0, ident="a"), infer(2.0, 3.0)))
    assert [numbers(reply) for reply in replies] == [(2.0,), (4.0, 6.0)]
    assert [answer_of(reply).id for reply in replies] == ["a", ""]
    assert {reply.headers for reply in replies} == {FIELDS}
    assert {reply.trailers for reply in replies} == {(*OK, (b"grpc-status-details-bin", b"eA"))}
    assert len(stage.upstream.calls) == 1


async def test_a_merged_call_is_a_grpc_call_and_asks_for_a_plain_answer(stage: Stage) -> None:
    own = ((b"grpc-accept-encoding", b"gzip"), (b"user-agent", b"me"), (b"grpc-encoding", b"identity"))
    tasks = submit(stage, infer(1.0, headers=FIELDS + own), infer(2.0))
    await turns()
    (merged,) = stage.upstream.calls
    assert merged.is_grpc
    assert dict(merged.headers) == {
        b"content-type": b"application/grpc",
        b"grpc-accept-encoding": b"identity",
    }
    stage.upstream.answer = doubled
    await settled(stage, tasks)


@pytest.mark.parametrize("trailers_only", [True, False])
async def test_a_bad_member_is_found_and_the_others_are_answered(
    stage: Stage, *, trailers_only: bool
) -> None:
    def answer(call: Call) -> Reply:
        is_bad = POISON in values_of(call)
        return failing(3, b"bad value", trailers_only=trailers_only) if is_bad else doubled(call)

    stage.upstream.answer = answer
    replies = await settled(stage, submit(stage, *[infer(value) for value in (1.0, 2.0, POISON, 4.0)]))
    assert [numbers(reply) for index, reply in enumerate(replies) if index != 2] == [(2.0,), (4.0,), (8.0,)]
    assert dict((*replies[2].headers, *replies[2].trailers))[b"grpc-status"] == b"3"
    assert stage.events.isolations == ["digits"]


async def test_an_error_that_names_an_item_costs_two_calls(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        values = values_of(call)
        return failing(3, b"input 2: bad") if POISON in values else doubled(call)

    stage.upstream.answer = answer
    await settled(stage, submit(stage, *[infer(value) for value in (1.0, 2.0, POISON, 4.0, 5.0)]))
    assert len(stage.upstream.calls) == 3


@pytest.mark.parametrize("code", [5, 7, 12, 14, 16])
async def test_what_everybody_would_be_told_is_told_to_everybody(stage: Stage, code: int) -> None:
    stage.upstream.answer = lambda _call: failing(code)
    replies = await settled(stage, submit(stage, infer(1.0), infer(2.0)))
    assert {(reply.status, reply.headers) for reply in replies} == {(200, failing(code).headers)}
    assert len(stage.upstream.calls) == 1


@pytest.mark.parametrize("text", [b"grpc: received message larger than max (9 vs. 4)", b"too busy"])
async def test_too_much_at_once_makes_batches_smaller_and_blames_nobody(stage: Stage, text: bytes) -> None:
    stage.upstream.answer = lambda call: failing(8, text) if len(values_of(call)) > 2 else doubled(call)
    replies = await settled(stage, submit(stage, *[infer(float(value)) for value in range(4)]))
    assert [numbers(reply) for reply in replies] == [(0.0,), (2.0,), (4.0,), (6.0,)]
    assert stage.batcher.snapshot()["quarantined"] == 0


async def test_an_answer_without_a_status_is_no_grpc(stage: Stage) -> None:
    stage.upstream.answer = lambda call: doubled(call, ())
    replies = await settled(stage, submit(stage, infer(1.0), infer(2.0)))
    assert [reply.body for reply in replies] == [replies[0].body] * 2
    assert len(stage.upstream.calls) == 1


async def test_a_streamed_answer_is_read_with_its_trailers(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        whole = doubled(call)
        assert isinstance(whole.body, bytes)
        stream = Stream(None)
        stream.feed(whole.body)
        stream.end(OK)
        return Reply(200, FIELDS, stream)

    stage.upstream.answer = answer
    replies = await settled(stage, submit(stage, infer(1.0), infer(2.0)))
    assert [(numbers(reply), reply.trailers) for reply in replies] == [((2.0,), OK), ((4.0,), OK)]


async def test_a_failure_alone_is_no_success(stage: Stage) -> None:
    stage.upstream.answer = lambda _call: failing(14)
    (reply,) = await settled(stage, submit(stage, infer(1.0)))
    assert reply.headers == failing(14).headers
    assert stage.batcher.snapshot()["paths"][0]["last"][0]["status"] == 503  # type: ignore[index]  # JSON values


async def test_answers_are_verified_by_their_values(stage: Stage) -> None:
    def answer(call: Call) -> Reply:
        values = values_of(call)
        off = 1e-7 if len(values) > 1 else 0.0
        reply = inference.ModelInferResponse(model_name="digits")
        reply.outputs.add(name="y", datatype="FP32", shape=[len(values)])
        reply.raw_output_contents.append(struct.pack(f"<{len(values)}f", *[value + off for value in values]))
        made = Reply(200, FIELDS, frame(reply.SerializeToString()))
        made.trailers = OK
        return made

    stage.upstream.answer = answer
    await settled(stage, submit(stage, infer(0.1), infer(0.2), verify="100%"))
    await turns()
    assert len(stage.upstream.calls) == 2
    assert stage.batcher.snapshot()["not_batched"] == {}


async def test_a_compressed_message_travels_alone(stage: Stage) -> None:
    call = infer(1.0)
    assert isinstance(call.body, bytes)
    call.body = b"\1" + call.body[1:]
    stage.upstream.answer = lambda _call: failing(12)
    await settled(stage, submit(stage, call))
    assert stage.upstream.calls == [call]
    assert stage.events.refusals == [("digits", "compressed")]
