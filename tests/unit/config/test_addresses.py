from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from proxy.config.addresses import Address, UpstreamUrl, parse_address
from proxy.pooling.endpoint import Endpoint, parse_endpoint

URL: TypeAdapter[Endpoint] = TypeAdapter(UpstreamUrl)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        (":0", Address("", 0)),
        ("model.local:65535", Address("model.local", 65535)),
        ("unix:/run/a b.sock", Address("", 0, "/run/a b.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text
    assert parse_address(address) is address


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (8080, "expected host:port"),
        ("8080", "expected host:port"),
        ("::1:8080", "expected host:port"),
        ("127.0.0.1:99999", "from 0 to 65535"),
        ("unix:relative", "absolute path"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_address(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_address(value)


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        (":1", "[::1]:1", True),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", ":1", False),
    ],
)
def test_collisions(one: str, other: str, collide: bool) -> None:
    assert parse_address(one).collides(parse_address(other)) is collide
    assert parse_address(other).collides(parse_address(one)) is collide


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/a", True),
        (":1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_loopback(text: str, is_loopback: bool) -> None:
    assert parse_address(text).is_loopback is is_loopback


@pytest.mark.parametrize("text", ["http://a:1", "https://[::1]", "unix:/run/m.sock"])
def test_urls(text: str) -> None:
    endpoint = URL.validate_python(text)
    assert endpoint == parse_endpoint(text)
    assert URL.validate_python(endpoint) is endpoint
    assert URL.dump_python(endpoint) == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (8000, "expected http://"),
        ("ftp://a", "expected http://"),
        ("http://", "expected http://"),
        ("http://a/path", "nothing else"),
        ("http://a:70000", "out of range"),
        ("http://a%20b:1", "no such host"),
        ("unix:relative", "absolute path"),
        ("unix:/" + "a" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_url(value: object, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        URL.validate_python(value)
