from __future__ import annotations

import pytest

from proxy.admin.guard import Guard, Visit

OPEN = Guard()
LOCKED = Guard("s3cret")


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", ""])
@pytest.mark.parametrize(
    "host", ["127.0.0.1:9901", "[::1]:9901", "localhost:9901", "LOCALHOST", "10.1.2.3", ""]
)
def test_local_peers_may_read_and_change(peer: str, host: str) -> None:
    assert OPEN.refusal(Visit("GET", peer, host)) is None
    assert OPEN.refusal(Visit("POST", peer, host)) is None


@pytest.mark.parametrize("peer", ["10.0.0.9", "::ffff:10.0.0.9", "fe80::1%eth0"])
def test_other_peers_may_read_under_any_name_but_not_change(peer: str) -> None:
    assert OPEN.refusal(Visit("GET", peer, "pillion.prod.svc:9901")) is None
    assert OPEN.refusal(Visit("HEAD", peer, "pillion.prod.svc:9901")) is None
    assert OPEN.refusal(Visit("POST", peer, "10.0.0.1:9901")) == (
        "without a token, changes are accepted from loopback only"
    )


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.nip.io", "[::1"]
)
def test_a_rebound_name_reaches_nothing(method: str, host: str) -> None:
    assert OPEN.refusal(Visit(method, "127.0.0.1", host)) == "Host must be an IP address or localhost"


def test_a_change_from_another_site_is_refused() -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8000", "http://["):
        visit = Visit("POST", "127.0.0.1", "127.0.0.1:9901", origin=origin)
        assert OPEN.refusal(visit) == "Origin is not this server"
    visit = Visit("POST", "127.0.0.1", "127.0.0.1:9901", fetch_site="cross-site")
    assert OPEN.refusal(visit) == "changes are not accepted from other sites"


def test_a_change_from_our_own_page_passes() -> None:
    visit = Visit(
        "POST", "127.0.0.1", "localhost:9901", origin="http://localhost:9901", fetch_site="same-origin"
    )
    assert OPEN.refusal(visit) is None


@pytest.mark.parametrize(
    "authorization", ["", "s3cret", "Bearer ", "Bearer s3creT", "Basic s3cret", "Bearer é", "Bearer \udcff"]
)
def test_with_a_token_everybody_needs_it(authorization: str) -> None:
    for peer in ("127.0.0.1", "10.0.0.9", ""):
        visit = Visit("POST", peer, "127.0.0.1", authorization=authorization)
        assert LOCKED.refusal(visit) == "a bearer token is needed"


def test_with_the_token_changes_pass_from_anywhere() -> None:
    for peer in ("127.0.0.1", "10.0.0.9"):
        assert LOCKED.refusal(Visit("POST", peer, "10.0.0.1", authorization="Bearer s3cret")) is None
    assert LOCKED.refusal(Visit("GET", "10.0.0.9", "10.0.0.1")) is None
