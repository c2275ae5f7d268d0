"""A described request as a client would send it."""

from __future__ import annotations

import pytest

from proxy.explain.request import Described, as_sent


def test_a_path_and_nothing_else() -> None:
    assert as_sent(Described("GET", "/v2/models/a?x=1")) == (
        b"GET /v2/models/a?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://api:8080/v1/models/a%20b:predict?x=1", b"/v1/models/a%20b:predict?x=1"),
        ("https://api:8080", b"/"),
        ("http://api:8080?x=1", b"/?x=1"),
    ],
)
def test_a_url_names_the_host(url: str, target: bytes) -> None:
    assert as_sent(Described("GET", url)) == b"GET " + target + b" HTTP/1.1\r\nHost: api:8080\r\n\r\n"


def test_a_body_is_json_unless_the_fields_say_otherwise() -> None:
    assert as_sent(Described("POST", "/p", (), b"{}")) == (
        b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
    )
    plain = as_sent(Described("POST", "/p", ("content-type: text/plain",), b"hi"))
    assert plain.count(b"ontent-") == plain.count(b"text/plain") + 1 == 2


def test_fields_keep_their_order_and_repetition() -> None:
    sent = as_sent(Described("GET", "/", ("X-A: 1", "host: me", "X-A:2")))
    assert sent == b"GET / HTTP/1.1\r\nX-A: 1\r\nhost: me\r\nX-A: 2\r\n\r\n"


@pytest.mark.parametrize(
    "described",
    [
        Described("GET", "v1/models"),
        Described("GET", "ftp://host/x"),
        Described("GET", "http:///x"),
        Described("GET", "/a b"),
        Described("GET", ""),
        Described("GET IT", "/"),
        Described("GET", "/", ("no colon",)),
        Described("GET", "/", ("a b: c",)),
        Described("GET", "/", ("a: b\r\nc: d",)),
        Described("GET", "/", ("Content-Length: 3",)),
        Described("GET", "/", ("Upgrade: websocket",)),
    ],
)
def test_what_is_no_request(described: Described) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        as_sent(described)
