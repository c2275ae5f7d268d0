from __future__ import annotations

import pytest

from proxy.pooling.endpoint import parse_endpoint


@pytest.mark.parametrize(
    ("url", "host", "port", "is_tls", "authority"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, False, b"127.0.0.1:8000"),
        ("http://model", "model", 80, False, b"model"),
        ("https://model", "model", 443, True, b"model"),
        ("https://model:8443/", "model", 8443, True, b"model:8443"),
        ("http://[::1]:8000", "::1", 8000, False, b"[::1]:8000"),
    ],
)
def test_a_url_names_a_host_and_a_port(
    url: str, host: str, port: int, is_tls: bool, authority: bytes
) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.host, endpoint.port, endpoint.is_tls, endpoint.path) == (host, port, is_tls, "")
    assert endpoint.authority == authority
    assert endpoint.url == url


@pytest.mark.parametrize("url", ["unix:/run/model.sock", "unix:///run/model.sock"])
def test_a_socket_path_names_a_socket(url: str) -> None:
    endpoint = parse_endpoint(url)
    assert endpoint.path == "/run/model.sock"
    assert endpoint.authority == b"localhost"


@pytest.mark.parametrize(
    "url",
    [
        "unix:model.sock",
        "ftp://model",
        "model:8000",
        "http://",
        "http://user@model",
        "http://model/v1",
        "http://model?x=1",
        "http://model#x",
        "http://model:99999",
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_endpoint(url)
