"""Messages by the keys of their fields."""

from __future__ import annotations

import pytest

from proxy.protobuf.message import Message, peek, replaced
from proxy.protobuf.wire import VARINT, Malformed, encode_field, key

NAME, PART = key(1), key(2)
DATA = b"\x0a\x01a" + b"\x12\x01x" + b"\x18\x07" + b"\x12\x02yz"


def test_known_fields_and_the_rest() -> None:
    message = Message(DATA, 0, len(DATA), frozenset((NAME, PART, key(9))))
    assert message.value(NAME) == b"a"
    assert message.values(PART) == [b"x", b"yz"]
    assert message.fields(PART) == [b"\x12\x01x", b"\x12\x02yz"]
    assert message.places(PART) == [(5, 6), (10, 12)]
    assert (message.value(key(9)), message.values(key(9)), message.fields(key(9))) == (b"", [], [])
    assert message.places(key(9)) == []
    assert message.unknown == b"\x18\x07"


def test_a_single_field_that_is_repeated_is_refused() -> None:
    with pytest.raises(Malformed):
        Message(DATA, 0, len(DATA), frozenset((PART,))).value(PART)


@pytest.mark.parametrize(
    ("data", "path", "value"),
    [
        (DATA, (1,), b"a"),
        (b"\x18\x07" + DATA, (1,), b"a"),
        (DATA, (2,), b"x"),
        (b"\x0a\x03" + encode_field(PART, b"q"), (1, 2), b"q"),
        (DATA[:4], (1,), b"a"),
        (DATA[:2], (1,), b""),
        (DATA[:1], (1,), b""),
        (b"\x0a", (1,), b""),
        (b"\x0a\x80", (1,), b""),
        (DATA, (3,), b""),
        (DATA, (9, 1), b""),
        (b"\x0d1234" + DATA, (1,), b""),
        (b"", (1,), b""),
    ],
)
def test_a_first_look(data: bytes, path: tuple[int, ...], value: bytes) -> None:
    assert peek(b"frame" + data, 5, path) == value


def test_a_value_is_replaced() -> None:
    assert replaced(DATA, (1,), b"bc") == b"\x0a\x02bc" + DATA[3:]
    assert replaced(DATA, (7,), b"b") == encode_field(key(7), b"b") + DATA


def test_a_value_deep_inside_is_replaced() -> None:
    inner = encode_field(NAME, b"old") + b"\x18\x07"
    assert replaced(encode_field(NAME, inner) + b"\x18\x01", (1, 1), b"new") == (
        encode_field(NAME, encode_field(NAME, b"new") + b"\x18\x07") + b"\x18\x01"
    )


def test_a_field_of_another_wire_type_is_another_field() -> None:
    assert Message(b"\x08\x01", 0, 2, frozenset((NAME,))).unknown == b"\x08\x01"
    assert key(1, VARINT) != NAME
