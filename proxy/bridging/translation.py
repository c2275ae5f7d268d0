"""Which gRPC method a REST call stands for, with what message, and what its answer becomes.

Theory of operation
-------------------
Each path of the Open Inference Protocol's REST form and of its extensions has one method of the gRPC form;
those that have none (Triton's ``generate``) or mean the server's own machine (shared memory) are not
translated, and `translate` says so. A backend that does not know a method answers 501.

Header fields become metadata and metadata header fields, as long as they can: fields that describe the JSON
or the gRPC message stay behind, and so do those that gRPC gives a meaning (``grpc-…``, names that end in
``-bin``) or does not allow (values other than printable ASCII).

A status becomes the HTTP status that gRPC's own gateways use for it, with the status message as the error;
push-back becomes ``Retry-After``.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

import msgspec

from proxy.bridging import answers, control
from proxy.bridging.encodings import decoded
from proxy.bridging.infer import HEAD_LENGTH, infer_request
from proxy.errors import BadReply, BadRequest, RouteNotFound
from proxy.exchange import field
from proxy.http2.grpc import http_status
from proxy.protobuf.framing import frame, message_at
from proxy.protobuf.wire import VARINT, encode_field, encode_varint, key

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.bridging.answers import Answer
    from proxy.exchange import Headers

__all__ = ("Translation", "metadata", "rest_answer", "translate")

_SERVICE: Final = b"/inference.GRPCInferenceService/"
_MODEL: Final = re.compile(
    rb"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(infer|ready|config|stats|trace/setting))?"
)
_REPOSITORY: Final = re.compile(rb"/v2/repository/models/([^/]+)/(load|unload)")
_LEFT_BEHIND: Final = frozenset((
    b"accept",
    b"accept-encoding",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"te",
    b"trailer",
    HEAD_LENGTH,
))  # fmt: skip
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]*")
_GRPC_FIELDS: Final = ((b"content-type", b"application/grpc"),)
_READY: Final = key(2, VARINT)


class Translation(NamedTuple):
    """A gRPC call: its path and message, and how the message that answers it reads in REST."""

    path: bytes
    message: bytes
    render: Callable[[bytes], Answer]

    @property
    def body(self) -> bytes:
        """The message in its frame."""
        return frame(self.message)


def translate(method: bytes, target: bytes, body: bytes, headers: Headers) -> Translation:
    """The gRPC call for a REST one.

    Raises `RouteNotFound` when there is none, `BadRequest` or `BodyTooLarge` for a body that cannot be
    translated.
    """
    path = target.partition(b"?")[0]
    body = decoded(body, field(headers, b"content-encoding"))
    verb = b"GET" if method == b"HEAD" else method
    simple = _SIMPLE.get((verb, path))
    if simple is not None:
        return Translation(_SERVICE + simple[0], b"", simple[1])
    try:
        found = _by_pattern(verb, path, body, headers)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise BadRequest(f"the request cannot be translated to gRPC: {error}") from None
    if found is None:
        asked = b"%b %b" % (verb, path)
        raise RouteNotFound(
            f"the upstream has only gRPC endpoints, and {asked.decode('latin-1')} has no gRPC form"
        )
    return found


def _by_pattern(verb: bytes, path: bytes, body: bytes, headers: Headers) -> Translation | None:
    service = _OF_THE_SERVER.get((verb, path))
    if service is not None:
        method, request, render = service
        return Translation(_SERVICE + method, request(body), render)
    found = _REPOSITORY.fullmatch(path) if verb == b"POST" else None
    if found is not None:
        method = b"RepositoryModelLoad" if found[2] == b"load" else b"RepositoryModelUnload"
        message = control.control_request(unquote_to_bytes(found[1]).decode(), body)
        return Translation(_SERVICE + method, message, control.done)
    found = _MODEL.fullmatch(path)
    if found is None or (verb, found[3]) not in _OF_A_MODEL:
        return None
    name, version = (unquote_to_bytes(part or b"").decode() for part in (found[1], found[2]))
    return _of_a_model(found[3], (name, version), body, headers)


def _of_a_model(what: bytes | None, model: tuple[str, str], body: bytes, headers: Headers) -> Translation:
    if what == b"infer":
        message, wishes = infer_request(*model, body, headers)
        return Translation(_SERVICE + b"ModelInfer", message, partial(answers.inference, wishes=wishes))
    name, version = model
    if what == b"trace/setting":
        return Translation(
            _SERVICE + b"TraceSetting", control.trace_request(name, body), control.trace_settings
        )
    message = encode_field(key(1), name.encode())
    if version:
        message += encode_field(key(2), version.encode())
    if what == b"ready":
        is_ready = partial(answers.health, name="ready", more={"name": name})
        return Translation(_SERVICE + b"ModelReady", message, is_ready)
    method, render = _READS[what]
    return Translation(_SERVICE + method, message, render)


_READS: Final[dict[bytes | None, tuple[bytes, Callable[[bytes], Answer]]]] = {
    None: (b"ModelMetadata", answers.model_metadata),
    b"config": (b"ModelConfig", answers.model_config),
    b"stats": (b"ModelStatistics", answers.statistics),
}
_OF_A_MODEL: Final = frozenset((
    *((b"GET", what) for what in (None, b"ready", b"config", b"stats", b"trace/setting")),
    (b"POST", b"infer"),
    (b"POST", b"trace/setting"),
))  # fmt: skip
_SIMPLE: Final[dict[tuple[bytes, bytes], tuple[bytes, Callable[[bytes], Answer]]]] = {
    (b"GET", b"/v2"): (b"ServerMetadata", answers.server_metadata),
    (b"GET", b"/v2/"): (b"ServerMetadata", answers.server_metadata),
    (b"GET", b"/v2/models/stats"): (b"ModelStatistics", answers.statistics),
    (b"GET", b"/v2/health/live"): (b"ServerLive", partial(answers.health, name="live", more={})),
    (b"GET", b"/v2/health/ready"): (b"ServerReady", partial(answers.health, name="ready", more={})),
}


def metadata(headers: Headers) -> Headers:
    """The metadata of a gRPC call made for a REST one with these fields."""
    return _GRPC_FIELDS + _carried(headers)


def rest_answer(
    translation: Translation, status: int, headers: Headers, body: bytes, trailers: Headers
) -> Answer:
    """The REST answer for a gRPC one; raises `BadReply` when that is none."""
    ending = trailers or headers
    status = http_status(status, ending)
    carried = _carried(headers) + (_carried(trailers) if trailers else ())
    if status != 200:
        message = unquote((field(ending, b"grpc-message") or b"").decode("latin-1"))
        answer = answers.error(status, message or f"the backend answered with gRPC status {_code(ending)}")
        return answer._replace(headers=answer.headers + carried + _retry_after(ending))
    try:
        answer = translation.render(body[message_at(body) :])
    except (ValueError, KeyError) as error:
        raise BadReply(f"the backend's answer cannot be translated from gRPC: {error}") from None
    return answer._replace(headers=answer.headers + carried)


def _code(fields: Headers) -> str:
    return (field(fields, b"grpc-status") or b"none").decode("latin-1")


def _retry_after(fields: Headers) -> Headers:
    pushback = field(fields, b"grpc-retry-pushback-ms") or b""
    return ((b"Retry-After", b"%d" % math.ceil(int(pushback) / 1e3)),) if pushback.isdigit() else ()


def _carried(headers: Headers) -> Headers:
    return tuple([
        (name, value)
        for name, value in headers
        if (lower := name.lower()) not in _LEFT_BEHIND
        and not lower.startswith(b"grpc-")
        and not lower.endswith(b"-bin")
        and _PRINTABLE.fullmatch(value)
    ])  # fmt: skip


class _IndexRequest(msgspec.Struct):
    ready: bool = False


def _index_request(body: bytes) -> bytes:
    wants_ready = msgspec.json.decode(body or b"{}", type=_IndexRequest).ready
    return encode_varint(_READY) + encode_varint(wants_ready) if wants_ready else b""


_OF_THE_SERVER: Final[
    dict[tuple[bytes, bytes], tuple[bytes, Callable[[bytes], bytes], Callable[[bytes], Answer]]]
] = {
    (b"POST", b"/v2/repository/index"): (b"RepositoryIndex", _index_request, answers.index),
    **{
        (verb, path): (method, request, render)
        for verb in (b"GET", b"POST")
        for path, method, request, render in (
            (b"/v2/logging", b"LogSettings", control.log_request, control.log_settings),
            (
                b"/v2/trace/setting",
                b"TraceSetting",
                partial(control.trace_request, ""),
                control.trace_settings,
            ),
        )
    },
}
