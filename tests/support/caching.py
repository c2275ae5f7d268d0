"""A cache with a clock that stands still, and the calls that are made to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxy.batching.codecs import CODECS
from proxy.batching.keys import HeaderRules, shared_fields
from proxy.caching.assembly import assemble
from proxy.caching.policy import CachePolicy, StorePolicy
from proxy.exchange import Call, Reply
from proxy.routing.policy import Route
from proxy.routing.table import Match
from tests.support.batching import JSON_FIELDS
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.caching.cache import Cache
    from proxy.exchange import Headers

__all__ = (
    "DETERMINISTIC",
    "EPOCH",
    "INFER",
    "METADATA",
    "PREDICT",
    "a_cache",
    "answer_tensors",
    "field_rules",
    "infer_call",
    "policy",
    "status_of",
)

EPOCH = 1_800_000_000.0
DETERMINISTIC = CachePolicy(mode="deterministic")


def _match(kind: str, protocol: str, codec: str | None, model: str = "digits") -> Match:
    return Match(Route("route", "model", protocol, kind, (), codec), model)  # type: ignore[arg-type]  # kinds are words


PREDICT = _match("infer", "kserve-v1", "kserve_v1")
INFER = _match("infer", "open-inference", "open_inference")
METADATA = _match("metadata", "open-inference", None)


def field_rules(ignore: Sequence[str]) -> HeaderRules:
    return HeaderRules(() if "authorization" in ignore else ("authorization",), ignore)


def policy(**settings: object) -> CachePolicy:
    """A deterministic policy, spans in seconds and sizes in bytes."""
    return DETERMINISTIC.model_copy(update=settings)


def a_cache(clock: FakeClock | None = None, **settings: object) -> Cache:
    """A cache as the application builds it; `settings` are those of `StorePolicy`, as numbers."""
    clock = clock or FakeClock()
    start = clock.now()
    return assemble(
        StorePolicy().model_copy(update=settings),
        clock=clock,
        wall=lambda: EPOCH + clock.now() - start,
        rules=field_rules,
        codecs=CODECS,
        share=shared_fields,
        upstreams=("model",),
    )


def status_of(reply: Reply) -> str:
    """What the reply says of the cache, without its node name."""
    return (reply.header(b"cache-status") or b"").decode().removeprefix("pillion; ")


def infer_call(*rows: Sequence[float], ident: str = "", headers: Headers = JSON_FIELDS) -> Call:
    """An Open Inference request for one flat tensor."""
    flat = [number for row in rows for number in row]
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": flat}
    body = {"inputs": [tensor]} | ({"id": ident} if ident else {})
    return Call(b"POST", b"/v2/models/digits/infer", headers, msgspec.json.encode(body))


def answer_tensors(call: Call) -> Reply:
    """A model that sums each row; it echoes the id, or makes one up as some servers do."""
    assert isinstance(call.body, bytes)
    request = msgspec.json.decode(call.body)
    tensor = request["inputs"][0]
    count, width = tensor["shape"]
    sums = [sum(tensor["data"][index * width : (index + 1) * width]) for index in range(count)]
    output = {"name": "sum", "shape": [count, 1], "datatype": "FP64", "data": sums}
    answer = {"model_name": "digits", "id": request.get("id", "made-up"), "outputs": [output]}
    return Reply(200, JSON_FIELDS, msgspec.json.encode(answer), reason=b"OK")
