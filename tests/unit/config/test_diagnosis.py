"""What an operator reads when something is wrong: the whole way from YAML to message."""

from __future__ import annotations

import pytest

from proxy.config.diagnosis import closest, shape_at
from proxy.config.load import load_text
from proxy.config.model import Config
from proxy.config.problems import Problem
from proxy.config.shape import Shape
from proxy.errors import ConfigError

GOOD = "version: 1\nupstreams: {m: {http: [http://a]}}\n"


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f", environ={})
    assert all(isinstance(problem, Problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("servr: {}", "f:3:1: servr: unknown key (did you mean server?)"),
        ("max_wait: 5ms", "f:3:1: max_wait: unknown key (did you mean models.<name>.batch.max_wait?)"),
        ("zzz: 1", "f:3:1: zzz: unknown key"),
        ("server: {limits: {Header-Bytes: 1KiB}}", "f:3:19: server.limits.Header-Bytes: unknown key (did you mean header_bytes?)"),
        ("server: {limits: {body: 30}}", "f:3:25: server.limits.body: expected a size with its unit, such as 64KiB or 8MiB (did you mean 30B?)"),
        ("server: {limits: {body: 64kb}}", "f:3:25: server.limits.body: expected a size with its unit, such as 64KiB or 8MiB (did you mean 64KiB?)"),
        ("server: {limits: {inflight: 0}}", "f:3:29: server.limits.inflight: must be at least 1"),
        ("server: {limits: {inflight: 1.5}}", "f:3:29: server.limits.inflight: expected a whole number"),
        ("server: {limits: {inflight: many}}", "f:3:29: server.limits.inflight: expected a whole number"),
        ("server: {limits: {inflight: '5'}}", "f:3:29: server.limits.inflight: expected a whole number (did you mean 5?)"),
        ("server: {limits: {inflight: }}", "f:3:29: server.limits.inflight: no value: expected a whole number"),
        ("server: {limits: {inflight: true}}", "f:3:29: server.limits.inflight: expected a whole number"),
        ("server: {limits: 5}", "f:3:18: server.limits: expected a mapping (key: value)"),
        ("server: [a]", "f:3:9: server: expected a mapping (key: value)"),
        ("server: {drain: {grace: 30 sec}}", "f:3:25: server.drain.grace: expected a duration with its unit, such as 50ms, 30s or 10m (did you mean 30s?)"),
        ("server: {drain: {grace: 2 Minutes}}", "f:3:25: server.drain.grace: expected a duration with its unit, such as 50ms, 30s or 10m (did you mean 2m?)"),
        ("server: {drain: {grace: soon}}", "f:3:25: server.drain.grace: expected a duration with its unit, such as 50ms, 30s or 10m"),
        ("server: {drain: {grace: 1.2.3s}}", "f:3:25: server.drain.grace: expected a duration with its unit, such as 50ms, 30s or 10m"),
        ("server: {drain: {grace: [30s]}}", "f:3:25: server.drain.grace: expected a duration with its unit, such as 50ms, 30s or 10m"),
        ("server: {http: {listen: 8080}}", "f:3:25: server.http.listen: expected host:port or unix:/path, such as 127.0.0.1:8080"),
        ("observe: {access_log: {ok: 0.5}}", "f:3:28: observe.access_log.ok: expected a share between 0% and 100%, such as 20% (did you mean 50%?)"),
        ("observe: {access_log: {format: jsn}}", "f:3:32: observe.access_log.format: expected json, text or off (did you mean json?)"),
        ("observe: {access_log: {format: [a]}}", "f:3:32: observe.access_log.format: expected json, text or off"),
        ("observe: {access_log: {format: no}}", 'f:3:32: observe.access_log.format: to some YAML readers a bare no is false (did you mean "no"?)'),
        ("models: {'*': {batch: {inflight: lots}}}", "f:3:34: models.*.batch.inflight: expected auto or a whole number"),
        ("models: {'*': {batch: {inflight: 0}}}", "f:3:34: models.*.batch.inflight: must be at least 1"),
        ("models: {'*': {batch: {isolate: cookie}}}", 'f:3:33: models.*.batch.isolate: expected a list (did you mean ["cookie"]?)'),
        ("models: {'*': {batch: {isolate: [5]}}}", 'f:3:34: models.*.batch.isolate[0]: expected text (did you mean "5"?)'),
        ("models: {a: {batch: {items: {start: 10}}}}", "f:3:29: models.a.batch.items: least (25), start (10) and most (200) must be in this order"),
        ("models: {'a**': {}}", "f:3:10: models.a**: write * once: ** means no more"),
        ("routes: [{match: {path: /a}}]", "f:3:10: routes[0].upstream: this key is required"),
        ("routes: [{match: {path: a}, upstream: m}]", "f:3:25: routes[0].match.path: a path pattern starts with /"),
        ("routes: [{match: {path: /a, method: get}, upstream: m}]", "f:3:37: routes[0].match.method: must match ^[A-Z][A-Z-]*$"),
    ],
)  # fmt: skip
def test_one_problem(line: str, expected: str) -> None:
    assert complaints(GOOD + line) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["f: version: this key is required", "f: upstreams: this key is required"]),
        ("version: 2\nupstreams: {m: {http: [http://a]}}", ["f:1:10: version: expected 1"]),
        ("version: 1\nupstreams: {}", ["f:2:12: upstreams: must have at least 1"]),
        ("version: 1\nupstreams: {m: {}}", ["f:2:16: upstreams.m: an upstream needs at least one endpoint, in http, grpc or l4"]),
        ("version: 1\nupstreams: {m: {http: []}}", ["f:2:16: upstreams.m: an upstream needs at least one endpoint, in http, grpc or l4"]),
        ("version: 1\nupstreams: {m: {http: [a]}}", ["f:2:24: upstreams.m.http[0]: 'a': expected http://host:port, https://host:port or unix:/path"]),
        ("version: 1\nupstreams: {m m: {http: [http://a]}}", ['f:2:13: upstreams."m m": must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$']),
        ("[]", ["f:1:1: expected a mapping (key: value)"]),
        ("a: [", ["f:2:1: not YAML: did not find expected node content"]),
    ],
)  # fmt: skip
def test_a_whole_file(text: str, expected: list[str]) -> None:
    assert complaints(text) == expected


def test_every_problem_at_once() -> None:
    found = complaints("""version: 1
version: 1
server: {limits: {body: 5}, timeouts: {keepalive: 1:30}}
upstreams:
  m: {http: ["${env:NOPE}", ftp://a], pol: {}}
""")
    assert found == [
        "f:2:1: version: duplicate key (first on line 1)",
        "f:3:51: server.timeouts.keepalive: to some YAML readers 1:30 is a number in base 60 (did you mean 90s?)",
        "f:5:14: upstreams.m.http[0]: the environment variable NOPE is not set",
        "f:3:25: server.limits.body: expected a size with its unit, such as 64KiB or 8MiB (did you mean 5B?)",
        "f:5:29: upstreams.m.http[1]: 'ftp://a': expected http://host:port, https://host:port or unix:/path",
        "f:5:39: upstreams.m.pol: unknown key (did you mean pool?)",
    ]


def test_the_closest_word() -> None:
    assert closest("kserve_v1", ["open-inference", "kserve-v1"]) == "kserve-v1"
    assert closest("MAX", ["min", "max"]) == "max"
    assert closest("zzz", ["min", "max"]) == ""


def test_shapes_by_path() -> None:
    assert shape_at(Config, ("models", "x", "batch", "isolate", 0)) == Shape(scalars=frozenset({str}))
    assert shape_at(Config, ("server", "http", "listen")).kind == "address"
    assert shape_at(Config, ("nowhere", "at", "all")) == Shape()
    assert shape_at(Config, ("server", 0)) == Shape()
