"""Which header fields separate batches, which are dropped from a merged call, and which forbid merging.

Theory of operation
-------------------
A merged call is one request with one set of header fields, made for callers who each sent their own. For
every field there are three possibilities:

* It belongs to one caller's transport or trace and no model looks at it (``User-Agent``, ``traceparent``,
  ``X-Forwarded-For``). It is dropped from a merged call. These are known by name.
* Merging would break what it promises (an encoded body, a signature over the body, an idempotency key, a
  CloudEvent). The call is refused.
* Anything else may matter to the answer: it must be equal for all members, byte for byte, and is then sent
  as it is. That is the default for names never heard of, because a tenant's key may go by any name. A field
  that differs with each request therefore keeps its calls apart; the operator can name it in
  ``batch.ignore``.

A few fields are addressed to the lanes themselves: they are read (`Wishes`) and go no further.

`batch.isolate` wins over everything: those fields must be equal. A credential that the operator removed
from it is dropped rather than sent on behalf of the others.

Names are looked up as they are spelt, in a table that is filled on demand, because lowering every name of
every request costs more than reading them. The table is bounded: names come from clients.

Answers are treated the other way round: only fields known to say nothing about one caller are
copied from a merged answer to its members.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.batching.queueing import USUAL
from proxy.config.fields import parse_duration
from proxy.errors import MergeRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.exchange import Headers

__all__ = ("NO_WISHES", "HeaderRules", "Wishes", "shared_fields")

_DROPPED: Final = frozenset(
    b"""accept-encoding baggage b3 cache-control cf-connecting-ip cf-ipcountry cf-ray content-length
    correlation-id date dnt elastic-apm-traceparent expect forwarded grpc-accept-encoding grpc-encoding
    grpc-previous-rpc-attempts grpc-tags-bin grpc-timeout grpc-trace-bin inference-header-content-length
    max-forwards newrelic pragma referer request-id save-data sentry-trace te traceparent
    tracestate true-client-ip uber-trace-id upgrade-insecure-requests user-agent via x-amz-cf-id
    x-amzn-trace-id x-client-ip x-cloud-trace-context x-correlation-id x-forwarded-for
    x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-scheme
    x-forwarded-server x-ms-client-request-id x-ot-span-context x-real-ip x-request-id
    x-request-start x-request-timeout x-scheme x-trace-id""".split()
)
_DROPPED_PREFIXES: Final = (b"pillion-", b"sec-", b"x-b3-", b"x-datadog-", b"x-envoy-", b"x-stainless-")
_REFUSED: Final = {
    b"idempotency-key": "idempotency_key",
    b"x-idempotency-key": "idempotency_key",
    b"range": "conditional",
    b"content-range": "conditional",
    b"content-md5": "signed_body",
    b"prefer": "preference",
}
_REFUSED_PREFIXES: Final = ((b"ce-", "cloud_event"), (b"if-", "conditional"))
_REFUSED_PARTS: Final = (
    (b"signature", "signed_body"),
    (b"digest", "signed_body"),
    (b"-sha256", "signed_body"),
)
_SHARED: Final = frozenset(
    b"""access-control-allow-credentials access-control-allow-headers access-control-allow-methods
    access-control-allow-origin access-control-expose-headers access-control-max-age allow alt-svc
    cache-control content-language content-type cross-origin-embedder-policy
    cross-origin-opener-policy cross-origin-resource-policy date deprecation expires grpc-message
    grpc-retry-pushback-ms grpc-status grpc-status-details-bin link
    retry-after server strict-transport-security sunset timing-allow-origin vary warning
    www-authenticate x-content-type-options x-frame-options x-powered-by""".split()
)
_MOST_NAMES: Final = 1024

_DROP: Final = b""  # no field has an empty name
_WISH: Final = b"\0"  # nor one with this character
_WISHES: Final = frozenset((b"pillion-batch", b"pillion-max-wait", b"priority"))
_URGENCY: Final = re.compile(rb"(?:^|,)[ \t]*u=([0-7])(?![0-9])")


class Wishes(NamedTuple):
    """What a caller says about its own batching.

    * ``is_off``: ``Pillion-Batch: off``, to be forwarded alone.
    * ``max_wait_s``: ``Pillion-Max-Wait: 5ms``, or None.
    * ``urgency``: ``Priority: u=1`` (RFC 9218), 0 most urgent to 7.
    """

    is_off: bool = False
    max_wait_s: float | None = None
    urgency: int = USUAL


NO_WISHES: Final = Wishes()


class HeaderRules:
    """The rules for one setting of ``isolate`` and ``ignore`` (field names, any case)."""

    __slots__ = ("_ignored", "_isolated", "_media_types", "_names")

    def __init__(self, isolate: Iterable[str], ignore: Iterable[str] = ()) -> None:
        self._isolated = frozenset(name.lower().encode() for name in isolate)
        self._ignored = frozenset(name.lower().encode() for name in ignore)
        self._names: dict[bytes, bytes] = {}  # as spelt -> lower case, or _DROP
        self._media_types: set[bytes] = set()  # seen and found mergeable

    def read(self, headers: Headers) -> tuple[Headers, Wishes]:
        """The fields that must be equal (names in lower case, sorted) and the caller's wishes.

        Raises `MergeRefused`.
        """
        names = self._names
        kept = []
        wishes = NO_WISHES
        for name, value in headers:
            known = names.get(name)
            if known is None:
                known = self._learn(name, value)
            if known is _WISH:
                wishes = _heed(wishes, name.lower(), value)
            elif known:
                kept.append((known, value))
                if known == b"content-type" and value not in self._media_types:
                    self._check_media_type(value)
        if len(kept) > 1:
            kept.sort()
        return tuple(kept), wishes

    def key(self, headers: Headers) -> Headers:
        """The fields that must be equal (names in lower case, sorted); raises `MergeRefused`."""
        return self.read(headers)[0]

    def tenant(self, key: Headers) -> Headers:
        """The part of a `key` that says whose calls these are."""
        return tuple([pair for pair in key if pair[0] in self._isolated])

    def _learn(self, name: bytes, value: bytes) -> bytes:
        """What is to be done with the field `name`; only what holds for every value is remembered."""
        lower = name.lower()
        if lower in self._isolated:
            known = lower
        elif lower in _WISHES:
            known = _WISH
        elif lower == b"content-encoding":
            if value.strip().lower() not in {b"", b"identity"}:
                raise MergeRefused("encoded_body")
            return _DROP
        elif self._is_dropped(lower):
            known = _DROP
        else:
            _check_mergeable(lower)
            known = lower
        if len(self._names) >= _MOST_NAMES:
            self._names.clear()
        self._names[name] = known
        return known

    def _check_media_type(self, value: bytes) -> None:
        """Refuse charsets other than UTF-8: bodies are spliced as they are."""
        lower = value.lower()
        if b"charset" in lower:
            charset = lower.partition(b"charset=")[2].partition(b";")[0].strip(b' "')
            if charset not in {b"utf-8", b"utf8", b"us-ascii"}:
                raise MergeRefused("charset")
        if len(self._media_types) < _MOST_NAMES:
            self._media_types.add(value)

    def _is_dropped(self, lower: bytes) -> bool:
        return (
            lower in _DROPPED
            or lower in self._ignored
            or lower.startswith(_DROPPED_PREFIXES)
            or lower == b"authorization"  # the operator took it out of `isolate`
        )


def _heed(wishes: Wishes, name: bytes, value: bytes) -> Wishes:
    """`wishes` and one more; what cannot be understood is no wish."""
    if name == b"priority":
        found = _URGENCY.search(value)
        return wishes._replace(urgency=int(found[1])) if found is not None else wishes
    if name == b"pillion-batch":
        return wishes._replace(is_off=wishes.is_off or value.strip().lower() == b"off")
    try:
        return wishes._replace(max_wait_s=parse_duration(value.decode("latin-1").strip()))
    except ValueError:
        return wishes


def _check_mergeable(lower: bytes) -> None:
    why = _REFUSED.get(lower)
    if why is None:
        why = next((why for prefix, why in _REFUSED_PREFIXES if lower.startswith(prefix)), None)
    if why is None:
        why = next((why for part, why in _REFUSED_PARTS if part in lower), None)
    if why is not None:
        raise MergeRefused(why)


def shared_fields(headers: Headers) -> Headers:
    """The fields of a merged answer that may be given to every member."""
    return tuple([pair for pair in headers if pair[0].lower() in _SHARED])
