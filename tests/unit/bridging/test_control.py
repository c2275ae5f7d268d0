"""Loading, unloading and settings as messages, and back."""

from __future__ import annotations

import json

import pytest

from proxy.bridging import control
from proxy.bridging.translation import translate
from proxy.errors import BadRequest
from proxy.protobuf.wire import VARINT, encode_field, encode_varint, key


def entry(name: str, value: bytes) -> bytes:
    return encode_field(key(1), name.encode()) + encode_field(key(2), value)


def test_parameters_of_a_load() -> None:
    body = {"parameters": {"config": "{}", "file:1/model": "AAE=", "unload_dependents": True, "n": -1}}
    message = control.control_request("m", json.dumps(body).encode())
    minus_one = encode_varint(key(2, VARINT)) + encode_varint(-1)
    assert message == encode_field(key(2), b"m") + b"".join((
        encode_field(key(3), entry("config", b"\x1a\x02{}")),
        encode_field(key(3), entry("file:1/model", b"\x22\x02\x00\x01")),
        encode_field(key(3), entry("unload_dependents", b"\x08\x01")),
        encode_field(key(3), entry("n", minus_one)),
    ))  # fmt: skip


@pytest.mark.parametrize("value", [1.5, [1], {"a": 1}, 1 << 63])
def test_what_is_no_parameter_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="cannot be translated"):
        translate(
            b"POST", b"/v2/repository/models/m/load", json.dumps({"parameters": {"p": value}}).encode(), ()
        )


def test_a_file_is_in_base64() -> None:
    with pytest.raises(ValueError, match="base64"):
        control.control_request("m", b'{"parameters": {"file:1/model": "!"}}')


def test_what_was_done_says_nothing() -> None:
    assert control.done(b"") == (200, (), b"")


def test_settings_of_the_log() -> None:
    message = control.log_request(
        b'{"log_info": false, "log_verbose_level": 2, "log_file": "x", "gone": null}'
    )
    answer = control.log_settings(message)
    assert json.loads(answer.body) == {
        "log_info": False,
        "log_verbose_level": 2,
        "log_file": "x",
        "gone": None,
    }


def test_settings_of_tracing() -> None:
    message = control.trace_request(
        "m", b'{"trace_level": ["TIMESTAMPS"], "trace_rate": 7, "trace_file": "f", "log_frequency": null}'
    )
    assert message.endswith(encode_field(key(2), b"m"))
    settings = message.removesuffix(encode_field(key(2), b"m"))
    assert json.loads(control.trace_settings(settings).body) == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": "7",
        "trace_file": "f",
        "log_frequency": [],
    }
    with pytest.raises(ValueError, match="trace_rate"):
        control.trace_request("", b'{"trace_rate": {"a": 1}}')


def test_an_empty_body_asks_for_the_settings() -> None:
    assert control.log_request(b"") == control.trace_request("", b"") == b""


def test_a_choice_of_a_later_version_is_not_shown() -> None:
    setting = entry("new", encode_varint(key(9, VARINT)) + encode_varint(1))
    assert json.loads(control.log_settings(encode_field(key(1), setting)).body) == {"new": None}
