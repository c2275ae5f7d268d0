from __future__ import annotations

import pytest

from proxy.config.load import load_text
from proxy.errors import ConfigError

ONE = "version: 1\nupstreams: {m: {http: [http://a]}}\n"


def complaints(text: str) -> list[str]:
    """Errors, or the warnings of what can be used."""
    try:
        return [str(problem) for problem in load_text(text, "f", environ={}).warnings]
    except ConfigError as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server: {http: {listen: ':9'}, admin: {listen: '127.0.0.1:9'}}", ["f:3:48: server.admin.listen: 127.0.0.1:9 is already taken by server.http.listen"]),
        ("server: {http: {listen: '127.0.0.1:9901'}}", ["f:3:1: server.admin.listen: 127.0.0.1:9901 is already taken by server.http.listen"]),
        ("server: {http: {listen: 'unix:/a'}, admin: {listen: 'unix:/a'}}", ["f:3:53: server.admin.listen: unix:/a is already taken by server.http.listen"]),
        ("server: {http: {listen: '127.0.0.1:0'}, admin: {listen: '127.0.0.1:0'}}", []),
        ("server: {admin: {listen: ':9901'}}", ["f:3:26: warning: server.admin.listen: :9901 can be reached from other machines: metrics and status are readable by them"]),
        ("routes: [{match: {path: /a}, upstream: n}]", ["f:3:40: routes[0].upstream: no upstream is named n (did you mean m?)"]),
        ("routes: [{match: {path: /a}, upstream: m}, {match: {path: /a}, upstream: m}]", ["f:3:45: warning: routes[1].match: never reached: routes[0] takes the same calls"]),
        ("routes: [{match: {path: /a}, upstream: m}, {match: {path: /a, method: GET}, upstream: m}]", ["f:3:45: warning: routes[1].match: never reached: routes[0] takes the same calls"]),
        ("routes: [{match: {path: /a, method: GET}, upstream: m}, {match: {path: /a}, upstream: m}]", []),
        ("models: {'*': {batch: {max_wait: 2m}}}", ["f:3:34: warning: models.*.batch.max_wait: waiting 2m for company is no less than an upstream's timeouts.first_byte (1m)"]),
        ("models: {'*': {batch: {max_wait: 59s}}}", []),
        ("models: {'*': {batch: {items: {least: 60}}}, a: {batch: {items: {start: 50}}}}", ["f:3:46: warning: models.a: contradicts what it inherits from less specific globs, so it inherits nothing"]),
        ("models: {'*': {batch: {items: {least: 60}}}, a: {batch: {items: {start: 70}}}}", []),
        ("models: {'*': {}, a: {}}", []),
    ],
)  # fmt: skip
def test_one_upstream(line: str, expected: list[str]) -> None:
    assert complaints(ONE + line) == expected


L4 = "version: 1\nupstreams: {m: {http: [http://a]}, s: {l4: ['127.0.0.1:7']}}\n"
LISTEN = "server: {l4: [{listen: '127.0.0.1:6', upstream: s}]}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LISTEN, []),
        ("", ["f:2:40: warning: upstreams.s.l4: nothing leads here: no listener in server.l4 names this upstream"]),
        (LISTEN.replace("upstream: s", "upstream: m"), ["f:3:49: server.l4[0].upstream: m has no l4 endpoint (did you mean s?)", "f:2:40: warning: upstreams.s.l4: nothing leads here: no listener in server.l4 names this upstream"]),
        (LISTEN.replace("upstream: s", "upstream: n"), ["f:3:49: server.l4[0].upstream: no upstream is named n (did you mean s?)", "f:2:40: warning: upstreams.s.l4: nothing leads here: no listener in server.l4 names this upstream"]),
        (LISTEN.replace(":6", ":7"), ["f:2:45: upstreams.s.l4[0]: this is the proxy itself (server.l4.0.listen)"]),
        (LISTEN.replace(":6", ":8080"), ["f:3:24: server.l4[0].listen: 127.0.0.1:8080 is already taken by server.http.listen"]),
        (LISTEN[:-1] + f", auth: {{keys: [{'a' * 64}]}}}}", ["f:3:10: warning: server.l4: whoever reaches an l4 listener is let through: keys are not asked for there"]),
        (LISTEN + "\nroutes: [{match: {path: /a}, upstream: s}]", ["f:4:40: routes[0].upstream: s has l4 endpoints only: no call can be routed to it"]),
        (LISTEN + "\nroutes: [{match: {path: /inference.GRPCInferenceService/ModelInfer}, upstream: m}]", ["f:4:80: routes[0].upstream: /inference.GRPCInferenceService/ModelInfer is a gRPC method, and m has no grpc endpoint"]),
    ],
)  # fmt: skip
def test_bytes_that_nobody_looks_at(line: str, expected: list[str]) -> None:
    assert complaints(L4 + line) == expected


@pytest.mark.parametrize("place", ["http://a:1", "https://a:1", "a", "7"])
def test_an_l4_endpoint_has_no_scheme(place: str) -> None:
    assert any(
        "expected host:port or unix:/path" in line for line in complaints(L4.replace("127.0.0.1:7", place))
    )


@pytest.mark.parametrize(
    ("upstreams", "expected"),
    [
        ("a: {http: [http://a]}, b: {http: [http://b]}", ["f:2:36: warning: upstreams.b: no call gets here: a takes the catch-all of generic; name it in routes"]),
        ("a: {protocol: openai, http: [http://a]}, b: {protocol: openai, http: [http://b]}", ["f:2:54: warning: upstreams.b: no call gets here: a takes the routes of openai; name it in routes"]),
        ("a: {protocol: openai, http: [http://a]}, b: {http: [http://b]}", []),
    ],
)  # fmt: skip
def test_an_upstream_that_no_call_reaches(upstreams: str, expected: list[str]) -> None:
    assert complaints(f"version: 1\nupstreams: {{{upstreams}}}") == expected


def test_an_upstream_that_a_route_reaches() -> None:
    text = "version: 1\nupstreams: {a: {http: [http://a]}, b: {http: [http://b]}}\nroutes: [{match: {path: /b}, upstream: b}]"
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("listen", "url", "is_loop"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("127.0.0.1:8080", "http://localhost:8080", True),
        ("localhost:8080", "http://127.0.0.1:8080", True),
        (":8080", "http://localhost:8080", True),
        ("0.0.0.0:8080", "http://127.0.0.2:8080", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("127.0.0.1:8080", "http://127.0.0.2:8080", False),
        (":8080", "http://10.0.0.1:8080", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "http://localhost:80", False),
    ],
)
def test_a_proxy_does_not_proxy_itself(listen: str, url: str, is_loop: bool) -> None:
    found = complaints(
        f"version: 1\nserver: {{http: {{listen: '{listen}'}}}}\nupstreams: {{m: {{http: ['{url}']}}}}"
    )
    expected = ["f:3:24: upstreams.m.http[0]: this is the proxy itself (server.http.listen)"]
    assert found == (expected if is_loop else [])
