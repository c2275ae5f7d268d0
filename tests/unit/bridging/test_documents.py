"""Messages as JSON documents by the table of forms."""

from __future__ import annotations

import json
import struct

import pytest

from proxy.bridging.answers import model_config, statistics
from proxy.bridging.documents import document
from proxy.bridging.forms import FORMS, WORDS
from proxy.protobuf.wire import FIXED32, FIXED64, VARINT, encode_field, encode_varint, key


def number(field: int, value: int) -> bytes:
    return encode_varint(key(field, VARINT)) + encode_varint(value)


def part(field: int, value: bytes) -> bytes:
    return encode_field(key(field), value)


def test_every_kind_is_known() -> None:
    plain = {"bool", "int", "uint", "float", "double", "text"}
    kinds = {field.kind for fields in FORMS.values() for field in fields.values()}
    assert kinds <= plain | set(FORMS) | set(WORDS)


def test_what_is_left_out_has_its_default_unless_it_is_a_message_or_a_choice() -> None:
    assert document("ModelInput", b"") == {
        "name": "",
        "data_type": "TYPE_INVALID",
        "format": "FORMAT_NONE",
        "dims": [],
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }
    assert document("StrategyDirect", b"")["minimum_slot_utilization"] == 0.0
    assert document("ModelVersionPolicy", b"") == {}


def test_a_configuration() -> None:
    tensor = part(1, b"x") + number(2, 11) + number(8, 1) + part(4, encode_varint(-1) + encode_varint(300))
    queue = part(1, encode_varint(4)) + number(2, 100) + part(7, number(1, 2) + part(2, number(1, 1)))
    config = b"".join((
        part(1, b"digits"),
        number(4, 8),
        part(5, tensor),
        part(11, queue),
        part(14, part(1, b"mode") + part(2, part(1, b"fast"))),
        part(10, part(1, b"team") + part(2, b"vision")),
        part(10, part(1, b"empty")),
        part(3, part(2, b"")),
        part(99, b"of a later version"),
    ))  # fmt: skip
    answer = model_config(part(1, config))
    found = json.loads(answer.body)
    assert answer.status == 200
    assert (found["name"], found["max_batch_size"]) == ("digits", 8)
    assert found["input"][0]["dims"] == [-1, 300]
    assert (found["input"][0]["data_type"], found["input"][0]["optional"]) == ("TYPE_FP32", True)
    assert found["dynamic_batching"]["preferred_batch_size"] == [4]
    assert found["dynamic_batching"]["priority_queue_policy"]["2"]["timeout_action"] == "DELAY"
    assert found["parameters"] == {"mode": {"string_value": "fast"}}
    assert found["metric_tags"] == {"team": "vision", "empty": ""}
    assert found["version_policy"] == {"all": {}}
    assert "sequence_batching" not in found


def test_statistics() -> None:
    spans = part(1, number(1, 7) + number(2, 1 << 40))
    one = part(1, b"m") + number(3, 1 << 63) + part(6, spans) + part(9, part(1, b"0") + part(2, spans))
    found = json.loads(statistics(part(1, one) + part(1, part(1, b"other"))).body)["model_stats"]
    assert [model["name"] for model in found] == ["m", "other"]
    assert found[0]["last_inference"] == 1 << 63
    assert found[0]["inference_stats"] == {"success": {"count": 7, "ns": 1 << 40}}
    assert found[0]["response_stats"] == {"0": {"compute_infer": {"count": 7, "ns": 1 << 40}}}
    assert "inference_stats" not in found[1]


def test_numbers_may_be_packed_or_not() -> None:
    assert document("Shape", number(1, 5) + part(1, b"\x06\x07"))["dim"] == [5, 6, 7]
    one = encode_varint(key(3, FIXED32)) + struct.pack("<f", 0.1)
    assert document("Control", one + part(3, struct.pack("<2f", 0.2, 2.5)))["fp32_false_true"] == [
        0.1,
        0.2,
        2.5,
    ]
    one = encode_varint(key(1, FIXED64)) + struct.pack("<d", 0.1)
    assert document("HistogramOptions", one + part(1, struct.pack("<d", 3.0)))["buckets"] == [0.1, 3.0]


def test_a_float_has_no_more_digits_than_it_needs() -> None:
    for value in (0.1, 1 / 3, 16777216.0, 1.3644169484905433e-05):
        (as_float,) = struct.unpack("<f", struct.pack("<f", value))
        wire = encode_varint(key(2, FIXED32)) + struct.pack("<f", value)
        shown = document("StrategyDirect", wire)["minimum_slot_utilization"]
        assert struct.pack("<f", shown) == struct.pack("<f", as_float)
        assert len(repr(shown)) <= len(repr(as_float))


def test_another_wire_type_than_the_table_says_is_no_such_field() -> None:
    assert document("StatisticDuration", part(1, b"x")) == {"count": 0, "ns": 0}
    assert document("ModelConfig", number(10, 1))["metric_tags"] == {}
    assert document("Shape", encode_varint(key(1, FIXED32)) + bytes(4))["dim"] == []
    assert document("ModelConfig", part(10, number(2, 1)))["metric_tags"] == {"": ""}
    assert document("ModelConfig", part(10, part(3, b"?")))["metric_tags"] == {"": ""}


def test_a_word_that_is_not_in_the_table_stays_a_number() -> None:
    assert document("ModelInstanceGroup", number(4, 99))["kind"] == 99


@pytest.mark.parametrize("broken", [b"\x0a", part(1, b"\xff")])
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|utf-8"):
        document("ModelConfig", broken)
