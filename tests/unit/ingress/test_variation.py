"""What may differ from a judged head without being judged anew, and that the judgement is the same."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ProxyError
from proxy.ingress.forwarding import Hop
from proxy.ingress.head import Head, read_head
from proxy.ingress.policy import AuthPolicy, ForwardingPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules
from proxy.ingress.variation import Pattern

RULES = HeadRules(LimitPolicy(), name="me")
STRICT = HeadRules(LimitPolicy(), forwarding=ForwardingPolicy(paths="strict"))
KEYED = HeadRules(LimitPolicy(), auth=AuthPolicy(keys=(hashlib.sha256(b"k").hexdigest(),)))
HOP = Hop(b"192.0.2.1")
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LINES = (
    b"POST /v1/models/m:predict HTTP/1.1",
    b"Host: h",
    b"Accept: */*",
    b"X-Forwarded-User: me",
    b"Connection: keep-alive, X-Mine",
    b"X-Mine: 1",
    b"Authorization: Bearer k",
    b"x-request-id: one",
    b"traceparent: " + TRACE,
    b"Content-Length: 5",
    b"Cookie:  a=1\t",
)


OFTEN = 70  # heads after which a pattern becomes an expression


def block(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


def told(found: Head | Pattern) -> dict[str, object]:
    """All that a head says."""
    head = found.head if isinstance(found, Pattern) else found
    differing = ("target", "headers", "length", "request_id", "trace")
    names = [name for name in dir(head) if not name.startswith("_") and name != "has_body"]  # from the length
    return {name: getattr(head, name) for name in names} | {name: getattr(found, name) for name in differing}


def varied(
    *changed: tuple[bytes, bytes], lines: tuple[bytes, ...] = LINES, rules: HeadRules = RULES
) -> bytes | None:
    """The target of the head with `changed` lines, None when it has to be judged by itself.

    Where it has not, that judgement must be the same, whether it is found line by line or all at once.
    """
    first = block(*lines)
    pattern = Pattern(read_head(first[:-2], HOP, rules), first, rules)
    other = block(*[dict(changed).get(line, line) for line in lines])
    ends = set()
    for _ in range(OFTEN):
        pattern.read(first)
        ends.add(pattern.read(other + b"and a body\r\n\r\n"))
    ends.discard(-1)  # with white space alone it differs from the first in nothing that counts
    assert len(ends) <= 1
    if ends <= {0}:
        return None
    assert ends == {len(other)}
    assert told(pattern) == told(read_head(other[:-2], HOP, rules))
    return pattern.target


@pytest.mark.parametrize(
    ("line", "other"),
    [
        (LINES[0], b"POST /v2/x?y=1 HTTP/1.1"),
        (LINES[2], b"Accept:text/plain"),
        (LINES[2], b"Accept: \xff"),
        (LINES[6], b"Authorization: Bearer other"),
        (LINES[7], b"x-request-id:\ttwo "),
        (LINES[8], b"traceparent: " + TRACE.replace(b"0e0e", b"1111")),
        (LINES[9], b"Content-Length: 0"),
        (LINES[9], b"Content-Length: 99"),
        (LINES[10], b"Cookie:"),
    ],
)
def test_what_may_differ(line: bytes, other: bytes) -> None:
    assert varied((line, other)) is not None


@pytest.mark.parametrize(
    ("line", "other"),
    [
        (LINES[0], b"GET /v1/models/m:predict HTTP/1.1"),
        (LINES[0], b"POST /v1/models/m:predict HTTP/1.0"),
        (LINES[0], b"POST /a#b HTTP/1.1"),
        (LINES[0], b"POST http://o/ HTTP/1.1"),
        (LINES[0], b"POST /"),
        (LINES[1], b"Host: other"),
        (LINES[2], b"Accept: a\0"),
        (LINES[2], b"Accept: a\rB: c"),
        (LINES[2], b"Accept: a\nB: c"),
        (LINES[2], b"accept: */*"),
        (LINES[2], b"Accept : */*"),
        (LINES[2], b"Transfer-Encoding: chunked"),
        (LINES[2], b"Accept: " + b"a" * 9000),
        (LINES[2], b"Accept: a\r\nB: c"),
        (LINES[3], b"X-Forwarded-User: you"),
        (LINES[4], b"Connection: close"),
        (LINES[5], b"X-Mine: 2"),
        (LINES[7], b"x-request-id: a b"),
        (LINES[8], b"traceparent: x"),
        (LINES[9], b"Content-Length: x"),
        (LINES[9], b"Content-Length: 99999999999"),
    ],
)
def test_what_has_to_be_judged_by_itself(line: bytes, other: bytes) -> None:
    assert varied((line, other)) is None


def test_a_key_that_is_asked_for_is_looked_at_each_time() -> None:
    assert varied((LINES[6], b"Authorization: Bearer x"), rules=KEYED) is None


def test_a_strict_path_is_looked_at_each_time() -> None:
    assert varied((LINES[0], b"POST /a//b HTTP/1.1"), rules=STRICT) is None
    assert varied((LINES[0], b"POST /a/b HTTP/1.1"), rules=STRICT) is not None


def test_a_trace_that_was_not_one_is_read_again() -> None:
    lines = (*LINES[:8], b"traceparent: x", *LINES[9:])
    assert varied((b"traceparent: x", LINES[8]), lines=lines) is None


def test_a_length_beside_an_upgrade_is_read_again() -> None:
    lines = (LINES[0], LINES[1], b"Connection: Upgrade", b"Upgrade: websocket", LINES[9])
    assert varied((LINES[9], b"Content-Length: 0"), lines=lines) is None


def test_the_absolute_form_is_read_again() -> None:
    lines = (b"GET http://o/ HTTP/1.1", LINES[1], LINES[2])
    assert varied((lines[0], b"GET / HTTP/1.1"), lines=lines) is None
    assert varied((LINES[2], b"Accept: x"), lines=lines) is None


def test_names_that_are_forgotten_are_read_again() -> None:
    first = block(*LINES)
    head = read_head(first[:-2], HOP, RULES)
    RULES.places.clear()
    assert Pattern(head, first, RULES).read(first.replace(b"*/*", b"x")) == 0


def test_lines_that_differ_later_are_learned_too() -> None:
    first = block(*LINES)
    pattern = Pattern(read_head(first[:-2], HOP, RULES), first, RULES)
    for changed in (LINES[10], LINES[7], LINES[0]):
        other = block(*[line.replace(b"one", b"two").replace(b"a=1", b"b=2") for line in LINES])
        other = other if changed != LINES[0] else other.replace(b":predict", b":explain")
        for data in (other, first) * OFTEN:
            assert pattern.read(data) == len(data)
            assert told(pattern) == told(read_head(data[:-2], HOP, RULES))


def test_what_is_no_variation_is_none_for_an_expression_either() -> None:
    first = block(*LINES)
    pattern = Pattern(read_head(first[:-2], HOP, RULES), first, RULES)
    other = first.replace(b"a=1", b"b=2")
    for _ in range(OFTEN):
        assert pattern.read(other) == len(other)
        assert pattern.read(first) == len(first)
    for wrong in (
        other.replace(b"b=2", b"b\0"),
        other.replace(b"b=2\t", b"b\rX: 1"),
        other.replace(b"Host: h", b"Host: evil"),
        other.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
        other.replace(b"b=2", b"b" * 3000),
        other[:-2],
        b"",
    ):
        assert pattern.read(wrong) == 0
        assert pattern.read(other) == len(other)
        assert pattern.read(first) == len(first)


def test_the_same_head_twice_running_is_worth_a_judgement() -> None:
    first = block(*LINES)
    pattern = Pattern(read_head(first[:-2], HOP, RULES), first, RULES)
    other, third = first.replace(b"a=1", b"b=2"), first.replace(b"a=1", b"c=3")
    for _ in range(OFTEN):
        assert pattern.read(other) == len(other)
        assert pattern.read(other) == -1
        assert pattern.read(third) == len(third)


def test_a_target_over_the_limit_is_read_again() -> None:
    rules = HeadRules(LimitPolicy.model_validate({"target": "40B"}))
    assert varied((LINES[0], b"POST /" + b"a" * 36 + b" HTTP/1.1"), rules=rules) is not None
    assert varied((LINES[0], b"POST /" + b"a" * 40 + b" HTTP/1.1"), rules=rules) is None


def test_a_block_that_may_hold_too_long_a_line_is_read_again() -> None:
    assert (
        varied((LINES[2], b"Accept: x"), rules=HeadRules(LimitPolicy.model_validate({"header_line": "200B"})))
        is None
    )


@settings(deadline=None)
@given(st.sampled_from(LINES), st.integers(0, 60), st.binary(max_size=3), st.integers(0, 3))
def test_any_difference_is_judged_as_by_itself(line: bytes, at: int, piece: bytes, cut: int) -> None:
    changed = line[:at] + piece + line[at + cut :]
    try:
        varied((line, changed))
    except ProxyError as error:
        pytest.fail(f"taken for a variation, though by itself it is refused: {error}")
