"""Open Inference with binary tensors, by example."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from proxy.batching.codecs import CODECS
from proxy.errors import MergeRefused, SplitMismatch

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Part, Prepared
    from proxy.exchange import Headers

CODEC = CODECS["open_inference"]


def message(head: object, *blobs: bytes, length: bytes | None = None) -> Part:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    size = b"%d" % len(text) if length is None else length
    return text + b"".join(blobs), ((b"Inference-Header-Content-Length", size),)


def tensor(name: str, shape: list[int], datatype: str, size: object, **more: object) -> dict[str, object]:
    parameters = {"binary_data_size": size, **more}
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def ask(*values: float, ident: str | None = None, names: tuple[bytes, ...] | None = None) -> Part:
    """Rows of two floats and a text."""
    texts = names if names is not None else tuple(b"t" * index for index in range(len(values) // 2))
    inputs = [
        tensor("x", [len(values) // 2, 2], "FP32", 4 * len(values)),
        tensor("s", [len(texts), 1], "BYTES", len(strings(*texts))),
    ]
    own = {} if ident is None else {"id": ident}
    return message({**own, "inputs": inputs}, floats(*values), strings(*texts))


def prepare(*parts: Part) -> list[Prepared]:
    return [CODEC.prepare(body, headers) for body, headers in parts]


def refusal(body: bytes, headers: Headers) -> str:
    with pytest.raises(MergeRefused) as refused:
        CODEC.prepare(body, headers)
    return refused.value.why


def test_the_bytes_of_each_input_are_joined() -> None:
    body, headers = CODEC.merge(prepare(ask(1, 2, ident="a"), ask(3, 4, 5, 6)))
    size = int(dict(headers)[b"Inference-Header-Content-Length"])
    assert json.loads(body[:size]) == {
        "inputs": [tensor("x", [3, 2], "FP32", 24), tensor("s", [3, 1], "BYTES", 13)]
    }
    assert body[size:] == floats(1, 2, 3, 4, 5, 6) + strings(b"", b"", b"t")


def test_json_and_binary_inputs_stand_side_by_side() -> None:
    def mixed(value: int, text: bytes) -> Part:
        plain = {"name": "j", "shape": [1], "datatype": "INT32", "data": [value]}
        return message({"inputs": [plain, tensor("s", [1], "BYTES", 4 + len(text), k=1)]}, strings(text))

    body, headers = CODEC.merge(prepare(mixed(7, b"one"), mixed(8, b"")))
    size = int(dict(headers)[b"Inference-Header-Content-Length"])
    assert json.loads(body[:size]) == {
        "inputs": [
            {"name": "j", "shape": [2], "datatype": "INT32", "data": [7, 8]},
            tensor("s", [2], "BYTES", 11, k=1),
        ]
    }
    assert body[size:] == strings(b"one", b"")


def test_binary_outputs_can_be_asked_for_in_plain_json() -> None:
    inputs = [{"name": "x", "shape": [1], "datatype": "FP32", "data": [[1]], "parameters": {"a": 1}}]
    inputs[0]["data"] = [1]
    body = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    merged, headers = CODEC.merge(prepare((body, ()), (body, ())))
    assert headers == ()
    assert json.loads(merged)["inputs"][0] == {**inputs[0], "shape": [2], "data": [1, 1]}
    assert json.loads(merged)["parameters"] == {"binary_data_output": True}


def test_outputs_are_cut_and_sized_anew() -> None:
    texts = strings(b"a", b"", b"ccc")
    head = {
        "model_name": "m",
        "outputs": [
            tensor("y", [3, 1], "FP32", 12),
            {"name": "j", "shape": [3], "datatype": "FP32", "data": [0.5, 1, 2]},
            tensor("s", [3], "BYTES", len(texts), k=1.5),
        ],
    }
    members = prepare(ask(1, 2, ident="a"), ask(3, 4, 5, 6))
    parts = CODEC.split(message(head, floats(7, 8, 9), texts), members)
    found = []
    for body, headers in parts:
        size = int(dict(headers)[b"Inference-Header-Content-Length"])
        found.append((json.loads(body[:size]), body[size:]))
    assert found[0][0] == {
        "model_name": "m",
        "id": "a",
        "outputs": [
            tensor("y", [1, 1], "FP32", 4),
            {"name": "j", "shape": [1], "datatype": "FP32", "data": [0.5]},
            tensor("s", [1], "BYTES", 5, k=1.5),
        ],
    }
    assert found[0][1] == floats(7) + strings(b"a")
    assert found[1][1] == floats(8, 9) + strings(b"", b"ccc")
    assert "id" not in found[1][0]


def test_an_answer_in_plain_json_stays_so() -> None:
    members = prepare(ask(1, 2), ask(3, 4))
    head = {"outputs": [{"name": "j", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
    parts = CODEC.split((json.dumps(head).encode().replace(b"1", b"NaN"), ()), members)
    assert [headers for _, headers in parts] == [(), ()]
    assert b"NaN" in parts[0][0]


GOOD = {"outputs": [tensor("y", [2, 1], "FP32", 8)]}


@pytest.mark.parametrize(
    "answer",
    [
        message(GOOD, floats(1)),
        message(GOOD, floats(1, 2, 3)),
        message({"outputs": [tensor("y", [3, 1], "FP32", 12)]}, floats(1, 2, 3)),
        message({"outputs": [tensor("y", [2, 1], "FP32", 4)]}, floats(1)),
        message({"outputs": [tensor("y", [2, 1], "FP32", "8")]}, floats(1, 2)),
        message({"outputs": [tensor("y", [2, 1], "FP31", 8)]}, floats(1, 2)),
        message({"outputs": [tensor("y", [2], "BYTES", 8)]}, b"\xff\xff\xff\xff" + b"\0" * 4),
        message({"outputs": [tensor("y", [2], "BYTES", 6)]}, strings(b"") + b"\0\0"),
        message({"outputs": [tensor("y", [2], "BYTES", 4)]}, strings(b"")),
        message({"outputs": [tensor("y", [-2], "FP32", 8)]}, floats(1, 2)),
        message({"outputs": [{"name": "y", "shape": [2], "datatype": "FP32"}]}),
        message({"outputs": []}),
        message({"error": "x"}),
        message({"outputs": [{**tensor("y", [2], "FP32", 8), "data": [1, 2]}]}, floats(1, 2)),
        message({"outputs": [{"data": [1, 2], **tensor("y", [2], "FP32", 8)}]}, floats(1, 2)),
        message(GOOD, floats(1, 2), length=b"9999"),
        message(GOOD, floats(1, 2), length=b"0"),
        message(GOOD, floats(1, 2), length=b"x"),
        message(b'{"outputs"', floats(1, 2)),
        message(b'{"outputs":NaN', floats(1, 2)),
    ],
)
def test_an_answer_without_exactly_the_bytes_is_not_cut(answer: Part) -> None:
    with pytest.raises(SplitMismatch):
        CODEC.split(answer, prepare(ask(1, 2), ask(3, 4)))


def request(*inputs: dict[str, object], blob: bytes = b"", **more: object) -> Part:
    return message({"inputs": list(inputs), **more}, blob)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ((b"\0\0\0\0", ((b"Inference-Header-Content-Length", b"0"),)), "raw_tensor"),
        (message({"inputs": []}, b"\0", length=b"999"), "form"),
        (message({"inputs": []}, b"\0", length=b"-1"), "form"),
        (message({"inputs": []}, b"\0"), "empty"),
        (message(b"nonsense"), "not_json"),
        (message(b"[]"), "form"),
        (request(), "empty"),
        (request(tensor("x", [1], "FP32", 4)), "form"),
        (request(tensor("x", [1], "FP32", 4), blob=floats(1, 2)), "form"),
        (request(tensor("x", [1], "FP32", "4"), blob=floats(1)), "form"),
        (request(tensor("x", [2], "FP32", 4), blob=floats(1)), "shape"),
        (request(tensor("x", [1], "WORD", 4), blob=floats(1)), "shape"),
        (request(tensor("x", [1], "BYTES", 4), blob=b"\x09\0\0\0"), "shape"),
        (request(tensor("x", [0], "FP32", 0)), "batch_dimension"),
        (request(tensor("x", [], "FP32", 4), blob=floats(1)), "batch_dimension"),
        (request({**tensor("x", [1], "FP32", 4), "data": [1]}, blob=floats(1)), "form"),
        (request({"name": "x", "shape": [1], "datatype": "FP32"}), "form"),
        (request(tensor("x", [1], "FP32", 4, shared_memory_region="r"), blob=floats(1)), "shared_memory"),
        (request(tensor("x", [1], "FP32", 4), blob=floats(1), parameters={"sequence_id": 1}), "stateful"),
        (
            message(
                b'{"id":"a","id":"b","inputs":[%b]}' % json.dumps(tensor("x", [1], "FP32", 4)).encode(),
                floats(1),
            ),
            "duplicate_keys",
        ),
        (
            message(
                b'{"inputs":[%b],"parameters":"\xff"}' % json.dumps(tensor("x", [1], "FP32", 4)).encode(),
                floats(1),
            ),
            "not_utf8",
        ),
    ],
)
def test_what_cannot_be_proved_is_refused(part: Part, why: str) -> None:
    assert refusal(*part) == why


def test_forms_never_share_a_call() -> None:
    plain = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}).encode()
    binary = message({"inputs": [tensor("x", [1], "FP32", 4)]}, floats(1))
    one, other = prepare((plain, ()), binary)
    assert one.key != other.key
