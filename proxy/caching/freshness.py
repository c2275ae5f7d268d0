"""What HTTP says about keeping and repeating an answer (RFC 9111, RFC 5861): verdicts without clocks or
sockets.

Theory of operation
-------------------
Three questions, in the order in which a call asks them.

*May this request be answered from the store?* `wish_of` reads the client's ``Cache-Control`` (or, without
one, ``Pragma``). Directives only ever narrow what the operator allowed: ``no-store`` neither reads nor
writes, ``no-cache`` reads nothing but writes, ``max-age`` and ``min-fresh`` demand a younger answer,
``only-if-cached`` forbids asking the backend. ``max-stale`` is a permission, not a demand, and is not used:
how stale an answer may get is the operator's decision.

*May this answer be kept?* `lifespan_of` returns its `Lifespan` or the reason why not. Only a plain 200 is
kept. The backend's word shortens the operator's `ttl` and never lengthens it: ``s-maxage`` before ``max-age``
before ``Expires`` (§5.2.2.10, §4.2.1), less the age that the answer already had. ``no-store``, ``private``,
and ``no-cache`` (which would need a validation that a POST does not have) forbid it; so do ``Set-Cookie``, a
content coding (requests are sent without ``Accept-Encoding``, so nobody asked for one), and a ``Vary`` on a
field that is not part of the key. ``must-revalidate`` and ``proxy-revalidate`` forbid stale answers; the
backend's own ``stale-if-error`` and ``stale-while-revalidate`` replace the operator's spans when they are
shorter.

Credentials: keys differ with credentials unless the operator said that they do not matter, so each caller's
answers are private to that credential and §3.5 is met without looking for ``public``.

*How old is it now?* An entry carries three instants (`Lifespan`), so that a hit costs one comparison.

A directive that cannot be read counts as the strictest reading: a malformed ``max-age`` is 0 (§4.2.1 permits
to treat it as stale)."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers

__all__ = ("Lifespan", "Spans", "Wish", "lifespan_of", "wish_of")

_LONGEST: Final = 10.0**9  # seconds; longer ages overflow nothing but mean nothing either


class Wish(NamedTuple):
    """What a client demands of a stored answer; ages and spans in seconds.

    `stores` False: keep nothing. `reads` False: give nothing that was kept. `max_age`: no older answer.
    `min_fresh`: it must stay fresh that long. `only_cached`: do not ask the backend.
    """

    stores: bool = True
    reads: bool = True
    max_age: float = math.inf
    min_fresh: float = 0.0
    only_cached: bool = False


class Spans(NamedTuple):
    """The operator's spans in seconds: fresh, then stale on error, then stale while a new one is fetched."""

    ttl: float
    stale_if_error: float = 0.0
    stale_while_revalidate: float = 0.0


class Lifespan(NamedTuple):
    """When an answer was made and until when it may be given: fresh, while revalidating, on error
    (instants)."""

    made_at: float
    fresh_until: float
    revalidate_until: float
    error_until: float


def wish_of(headers: Headers) -> Wish | None:
    """The demands in a request's fields; None when there are none, which is nearly always."""
    said, pragma = [], b""
    for name, value in headers:  # once: this is paid for every hit
        length = len(name)
        if length == 13 and name.lower() == b"cache-control":
            said.append(value)
        elif length == 6 and name.lower() == b"pragma":
            pragma = value
    if not said:
        return Wish(reads=False) if b"no-cache" in pragma.lower() else None
    directives = _directives(b",".join(said))
    wish = Wish(
        stores=b"no-store" not in directives,
        reads=not directives.keys() & {b"no-store", b"no-cache"},
        max_age=_seconds(directives, b"max-age", math.inf),
        min_fresh=_seconds(directives, b"min-fresh", 0.0, malformed=_LONGEST),
        only_cached=b"only-if-cached" in directives,
    )
    return None if wish == Wish() else wish


def lifespan_of(
    status: int, headers: Headers, spans: Spans, now: float, *, is_keyed: Callable[[bytes], bool]
) -> Lifespan | str:
    """How long an answer that came at `now` (seconds since the epoch) may be given again, or why it may not.

    `is_keyed` says whether requests that differ in a field (lower case) have different keys.
    """
    if status != 200:
        return "status"
    refusal = _refusal(headers, is_keyed)
    if refusal is not None:
        return refusal
    said = [value for name, value in headers if name.lower() == b"cache-control"]
    directives = _directives(b",".join(said))
    if directives.keys() & {b"no-store", b"private", b"no-cache"}:
        return "response_directive"
    age = _number(field(headers, b"age") or b"0", malformed=0.0)
    fresh_s = min(spans.ttl, _declared(directives, headers, spans.ttl) - age)
    is_strict = bool(directives.keys() & {b"must-revalidate", b"proxy-revalidate"})
    revalidate_s = (
        0.0 if is_strict else _stale(directives, b"stale-while-revalidate", spans.stale_while_revalidate)
    )
    error_s = 0.0 if is_strict else _stale(directives, b"stale-if-error", spans.stale_if_error)
    if fresh_s + max(revalidate_s, error_s) <= 0:
        return "expired"
    fresh_until = now + fresh_s
    return Lifespan(now - age, fresh_until, fresh_until + revalidate_s, fresh_until + error_s)


def _refusal(headers: Headers, is_keyed: Callable[[bytes], bool]) -> str | None:
    for name, value in headers:
        lower = name.lower()
        if lower == b"set-cookie":
            return "set_cookie"
        if lower == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            return "encoded"
        if lower == b"vary" and not all(_is_covered(part, is_keyed) for part in value.split(b",")):
            return "vary"
    return None


def _is_covered(varying: bytes, is_keyed: Callable[[bytes], bool]) -> bool:
    name = varying.strip().lower()
    # Accept-Encoding is never sent with a request whose answer may be kept: all of them are alike in it.
    return name in {b"", b"accept-encoding"} or (name != b"*" and is_keyed(name))


def _declared(directives: dict[bytes, bytes], headers: Headers, default: float) -> float:
    """The freshness that the backend states, in seconds; `default` when it states none."""
    for name in (b"s-maxage", b"max-age"):
        if name in directives:
            return _number(directives[name], malformed=0.0)
    expires = field(headers, b"expires")
    if expires is None:
        return default
    try:
        date = parsedate_to_datetime((field(headers, b"date") or b"").decode("latin-1"))
        return (parsedate_to_datetime(expires.decode("latin-1")) - date).total_seconds()
    except (ValueError, TypeError):  # a date with a zone less one without
        return 0.0  # an invalid date is in the past (RFC 9111 §5.3)


def _stale(directives: dict[bytes, bytes], name: bytes, allowed_s: float) -> float:
    return min(allowed_s, _seconds(directives, name, allowed_s))


def _seconds(directives: dict[bytes, bytes], name: bytes, default: float, *, malformed: float = 0.0) -> float:
    return _number(directives[name], malformed=malformed) if name in directives else default


def _number(text: bytes, *, malformed: float) -> float:
    text = text.strip()
    return min(float(text), _LONGEST) if text.isdigit() else malformed


def _directives(text: bytes) -> dict[bytes, bytes]:
    """Argument by name, the first where a name is repeated (RFC 9111 §4.2.1)."""
    directives: dict[bytes, bytes] = {}
    for part in text.split(b","):
        name, _, value = part.partition(b"=")
        directives.setdefault(name.strip().lower(), value.strip().strip(b'"'))
    return directives
