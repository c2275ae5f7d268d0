"""Parameters as JSON values and as map entries."""

from __future__ import annotations

import pytest

from proxy.bridging.parameters import decode_parameters, encode_parameters
from proxy.protobuf import inference as pb
from proxy.protobuf.wire import encode_field
from tests.support.inference_messages import inference

VALUES: dict[str, object] = {
    "bool": True,
    "no": False,
    "int": -7,
    "large": (1 << 64) - 1,
    "text": "é",
    "number": 1.5,
}


def test_both_ways() -> None:
    data = encode_parameters(pb.PARAMETERS, VALUES)
    message = inference.ModelInferRequest.FromString(data)
    fields = {name: message.parameters[name].ListFields() for name in VALUES}
    assert {name: found[0][1] for name, found in fields.items()} == VALUES
    entries = [encode_parameters(pb.PARAMETERS, {name: value}) for name, value in VALUES.items()]
    assert decode_parameters(entries) == VALUES
    assert b"".join(entries) == data


@pytest.mark.parametrize("value", [[1], {"a": 1}, 1 << 64, -(1 << 63) - 1])
def test_what_has_no_place(value: object) -> None:
    with pytest.raises(ValueError, match="parameter p"):
        encode_parameters(pb.PARAMETERS, {"p": value})


def test_a_parameter_without_a_value_or_of_another_kind_is_left_out() -> None:
    entry = encode_field(pb.ENTRY_KEY, b"p")
    assert decode_parameters([encode_field(pb.PARAMETERS, entry)]) == {}
    other = encode_field(pb.ENTRY_VALUE, b"\x48\x01")
    assert decode_parameters([encode_field(pb.PARAMETERS, entry + other)]) == {}
