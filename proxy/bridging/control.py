"""Loading, unloading and settings in REST as messages, and their answers.

Theory of operation
-------------------
Parameters of a load are texts, numbers and truth values as they stand, but those whose name begins with
``file:`` are files in base64, which travel as bytes. Settings are a map; one that is null goes back to its
default. A setting of tracing is a list of texts, and all but ``trace_level`` are shown as the one they have.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

import msgspec

from proxy.bridging.answers import JSON, Answer
from proxy.protobuf.inference import ENTRY_KEY, ENTRY_VALUE
from proxy.protobuf.message import Message
from proxy.protobuf.wire import VARINT, cut, encode_field, encode_varint, key, read_varint

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("control_request", "done", "log_request", "log_settings", "trace_request", "trace_settings")

_BOOL: Final = key(1, VARINT)
_NUMBER: Final = key(2, VARINT)
_TEXT: Final = key(3)
_BYTES: Final = key(4)
_ENTRY: Final = frozenset((ENTRY_KEY, ENTRY_VALUE))
_FILE: Final = "file:"


class _Control(msgspec.Struct):
    parameters: dict[str, Any] = {}


_read_control: Final = msgspec.json.Decoder(_Control).decode
_read_settings: Final = msgspec.json.Decoder(dict[str, Any]).decode


def control_request(model: str, body: bytes) -> bytes:
    """The message that loads or unloads `model`; raises ValueError."""
    parameters = _read_control(body or b"{}").parameters
    return encode_field(key(2), model.encode()) + _map(
        3, {name: _parameter(name, value) for name, value in parameters.items()}
    )


def log_request(body: bytes) -> bytes:
    """The message that reads the log's settings or, with a body, changes them; raises ValueError."""
    settings = _read_settings(body or b"{}")
    return _map(1, {name: _choice(name, value) for name, value in settings.items()})


def trace_request(model: str, body: bytes) -> bytes:
    """The same for tracing, of one `model` or (empty) of all; raises ValueError."""
    settings = _read_settings(body or b"{}")
    message = _map(1, {name: _texts(name, value) for name, value in settings.items()})
    return message + encode_field(key(2), model.encode()) if model else message


def done(_message: bytes) -> Answer:
    """There is nothing to say."""
    return Answer(200, (), b"")


def log_settings(message: bytes) -> Answer:
    """The log's settings; raises ValueError."""
    return _settings({name: _chosen(value) for name, value in _entries(message)})


def trace_settings(message: bytes) -> Answer:
    """The settings of tracing; raises ValueError."""
    settings: dict[str, object] = {}
    for name, value in _entries(message):
        texts = [value[at:end].decode() for tag, _, at, end in cut(value) if tag == key(1)]
        settings[name] = texts[0] if len(texts) == 1 and name != "trace_level" else texts
    return _settings(settings)


def _settings(settings: Mapping[str, object]) -> Answer:
    return Answer(200, JSON, msgspec.json.encode(settings))


def _map(number: int, entries: Mapping[str, bytes]) -> bytes:
    return b"".join([
        encode_field(key(number), encode_field(ENTRY_KEY, name.encode()) + encode_field(ENTRY_VALUE, value))
        for name, value in entries.items()
    ])  # fmt: skip


def _parameter(name: str, value: object) -> bytes:
    if not name.startswith(_FILE):
        return _choice(name, value)
    try:
        return encode_field(_BYTES, base64.b64decode(str(value), validate=True))
    except binascii.Error:
        raise ValueError(f"parameter {name} is not base64") from None


def _choice(name: str, value: object) -> bytes:
    match value:
        case None:
            return b""
        case bool():
            return encode_varint(_BOOL) + encode_varint(value)
        case int() if -(1 << 63) <= value < 1 << 63:
            return encode_varint(_NUMBER) + encode_varint(value)
        case str():
            return encode_field(_TEXT, value.encode())
        case _:
            raise ValueError(f"{name} is no text, whole number or truth value")


def _texts(name: str, value: object) -> bytes:
    texts = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str | int) for text in texts):
        raise ValueError(f"{name} is neither a text nor a list of texts")
    return b"".join([encode_field(key(1), str(text).encode()) for text in texts])


def _entries(message: bytes) -> list[tuple[str, bytes]]:
    entries = []
    for entry in Message(message, 0, len(message), frozenset((key(1),))).values(key(1)):
        parts = Message(entry, 0, len(entry), _ENTRY)
        entries.append((parts.value(ENTRY_KEY).decode(), parts.value(ENTRY_VALUE)))
    return entries


def _chosen(choice: bytes) -> bool | int | str | None:
    found: bool | int | str | None = None
    for tag, _, at, end in cut(choice):
        if tag == _TEXT:
            found = choice[at:end].decode()
        elif tag == _BOOL:
            found = bool(read_varint(choice, at, end)[0])
        elif tag == _NUMBER:
            found = read_varint(choice, at, end)[0]
    return found
