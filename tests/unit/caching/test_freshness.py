from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from proxy.caching.freshness import Lifespan, Spans, Wish, lifespan_of, wish_of

if TYPE_CHECKING:
    from proxy.exchange import Headers

NOW = 1000.0
SPANS = Spans(60.0, 30.0, 20.0)


def keyed(name: bytes) -> bool:
    return name in {b"accept", b"x-tenant"}


def life(*headers: tuple[bytes, bytes], status: int = 200, spans: Spans = SPANS) -> Lifespan | str:
    return lifespan_of(status, headers, spans, NOW, is_keyed=keyed)


def fresh_s(*headers: tuple[bytes, bytes]) -> float:
    found = life(*headers)
    assert isinstance(found, Lifespan)
    return found.fresh_until - NOW


@pytest.mark.parametrize(
    ("headers", "wish"),
    [
        ((), None),
        (((b"Accept", b"*/*"), (b"X-Cache-Contr", b"no-store"), (b"Traced", b"no-cache")), None),
        (((b"Cache-Control", b"max-stale=5, no-transform"),), None),
        (((b"Cache-Control", b""),), None),
        (((b"CACHE-control", b"No-Store"),), Wish(stores=False, reads=False)),
        (((b"Cache-Control", b"no-cache"),), Wish(reads=False)),
        (((b"Cache-Control", b'max-age="5", max-age=50'),), Wish(max_age=5.0)),
        (
            ((b"Cache-Control", b"max-age=5"), (b"Cache-Control", b"only-if-cached")),
            Wish(max_age=5.0, only_cached=True),
        ),
        (((b"Cache-Control", b"max-age=-1"),), Wish(max_age=0.0)),
        (((b"Cache-Control", b"max-age=99999999999999999999"),), Wish(max_age=1e9)),
        (((b"Cache-Control", b"min-fresh=7"),), Wish(min_fresh=7.0)),
        (((b"Cache-Control", b"min-fresh=soon"),), Wish(min_fresh=1e9)),
        (((b"Pragma", b"No-Cache"),), Wish(reads=False)),
        (((b"Pragma", b"other"),), None),
        (((b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=9")), Wish(max_age=9.0)),
    ],
)
def test_what_a_client_wishes(headers: Headers, wish: Wish | None) -> None:
    assert wish_of(headers) == wish


def test_no_wish_leaves_everything_open() -> None:
    assert Wish() == Wish(stores=True, reads=True, max_age=math.inf, min_fresh=0.0, only_cached=False)


def test_without_a_word_from_the_backend_the_operator_decides() -> None:
    assert life() == Lifespan(NOW, NOW + 60, NOW + 80, NOW + 90)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (((b"Cache-Control", b"no-store"),), "response_directive"),
        (((b"Cache-Control", b'Private="x-a, x-b"'),), "response_directive"),
        (((b"Cache-Control", b"public, no-cache"),), "response_directive"),
        (((b"Cache-Control", b"max-age=0, must-revalidate"),), "expired"),
        (((b"Set-Cookie", b"a=b"),), "set_cookie"),
        (((b"Content-Encoding", b"gzip"),), "encoded"),
        (((b"Vary", b"*"),), "vary"),
        (((b"Vary", b"Accept, User-Agent"),), "vary"),
        (((b"Vary", b"Accept"), (b"vary", b"origin-of-no-key")), "vary"),
    ],
)
def test_what_is_not_kept(headers: Headers, why: str) -> None:
    assert life(*headers) == why


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 404, 500, 503])
def test_only_plain_success_is_kept(status: int) -> None:
    assert life(status=status) == "status"


@pytest.mark.parametrize(
    "headers",
    [
        ((b"Content-Encoding", b"identity"),),
        ((b"Content-Encoding", b""),),
        ((b"Vary", b"Accept, Accept-Encoding, X-Tenant,"),),
        ((b"Cache-Control", b"public"),),
    ],
)
def test_what_does_not_stand_in_the_way(headers: Headers) -> None:
    assert fresh_s(*headers) == 60


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        (((b"Cache-Control", b"max-age=10"),), 10),
        (((b"Cache-Control", b"max-age=3600"),), 60),
        (((b"Cache-Control", b"max-age=50, s-maxage=5"),), 5),
        (((b"Cache-Control", b"max-age=50"), (b"Age", b"20")), 30),
        (((b"Cache-Control", b"max-age=3600"), (b"Age", b"20")), 60),
        (((b"Age", b"20"),), 40),
        (((b"Age", b"nonsense"),), 60),
        (((b"Date", b"Mon, 23 Nov 2026 08:00:00 GMT"), (b"Expires", b"Mon, 23 Nov 2026 08:00:30 GMT")), 30),
        (((b"Cache-Control", b"max-age=7"), (b"Expires", b"0")), 7),
    ],
)
def test_the_backend_shortens_and_never_lengthens(headers: Headers, span: float) -> None:
    assert fresh_s(*headers) == span


@pytest.mark.parametrize(
    "headers",
    [
        ((b"Date", b"Mon, 23 Nov 2026 08:00:00 GMT"), (b"Expires", b"0")),
        ((b"Expires", b"Mon, 23 Nov 2026 08:00:30 GMT"),),
        ((b"Date", b"Mon, 23 Nov 2026 08:00:00 -0000"), (b"Expires", b"Mon, 23 Nov 2026 08:00:30 GMT")),
        ((b"Cache-Control", b"max-age=later"),),
    ],
)
def test_what_cannot_be_read_is_stale_at_once(headers: Headers) -> None:
    assert fresh_s(*headers) == 0
    assert lifespan_of(200, headers, Spans(60.0), NOW, is_keyed=keyed) == "expired"


def test_age_counts_from_when_the_answer_was_made() -> None:
    found = life((b"Age", b"15"))
    assert isinstance(found, Lifespan)
    assert found.made_at == NOW - 15


@pytest.mark.parametrize(
    ("said", "revalidate_s", "error_s"),
    [
        (b"", 20, 30),
        (b"stale-while-revalidate=5, stale-if-error=6", 5, 6),
        (b"stale-while-revalidate=500, stale-if-error=600", 20, 30),
        (b"stale-while-revalidate=x", 0, 30),
        (b"must-revalidate", 0, 0),
        (b"proxy-revalidate, stale-if-error=6", 0, 0),
    ],
)
def test_how_long_a_stale_answer_is_of_use(said: bytes, revalidate_s: float, error_s: float) -> None:
    assert life((b"Cache-Control", said)) == Lifespan(
        NOW, NOW + 60, NOW + 60 + revalidate_s, NOW + 60 + error_s
    )
