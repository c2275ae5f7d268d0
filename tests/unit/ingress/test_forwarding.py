"""What is believed, and what is told to the next hop."""

from __future__ import annotations

import pytest

from proxy.errors import LoopDetected
from proxy.ingress.forwarding import Hop, Strangers, check_loop, forwarded_fields, read_request_id, read_trace
from proxy.ingress.policy import ForwardingPolicy

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("trusted", "peer", "is_trusted"),
    [
        ((), b"127.0.0.1", False),
        (("10.0.0.0/8",), b"10.1.2.3", True),
        (("10.0.0.0/8",), b"::ffff:10.1.2.3", True),
        (("10.0.0.0/8",), b"11.1.2.3", False),
        (("10.0.0.0/8",), b"::1", False),
        (("fe80::/10",), b"fe80::1%eth0", True),
        (("10.0.0.0/8",), b"unix:", False),
        (("unix",), b"unix:", True),
        (("unix",), b"127.0.0.1", False),
    ],
)
def test_trusted_peers(trusted: tuple[str, ...], peer: bytes, is_trusted: bool) -> None:
    assert Strangers(trusted, ForwardingPolicy()).trusts(peer) is is_trusted


@pytest.mark.parametrize(
    ("name", "is_withheld"),
    [
        (b"x-forwarded-user", True),
        (b"remote-user", True),
        (b"x-remote-groups", True),
        (b"x-mine", False),
        (b"remote-use", False),
    ],
)
def test_fields_that_a_stranger_may_not_send(name: bytes, is_withheld: bool) -> None:
    assert Strangers((), ForwardingPolicy()).may_not_say(name) is is_withheld


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ({}, b""),
        ({b"x-forwarded-for": [b"1.1.1.1"]}, b"1.1.1.1"),
        ({b"x-forwarded-for": [b"6.6.6.6, 1.1.1.1", b"10.0.0.1,10.0.0.2"]}, b"1.1.1.1"),
        ({b"x-forwarded-for": [b"10.0.0.9, 10.0.0.1"]}, b"10.0.0.9"),
        ({b"x-forwarded-for": [b"evil\x1b, 10.0.0.1"]}, b"10.0.0.1"),
        ({b"x-forwarded-for": [b"unix:"]}, b""),
        ({b"x-forwarded-for": [b"2001:db8::1"]}, b"2001:db8::1"),
        (
            {b"forwarded": [b'for=6.6.6.6, For="[2001:db8::1]:80";proto=http', b"for=10.0.0.1"]},
            b"2001:db8::1",
        ),
        ({b"forwarded": [b"for=unknown;by=1.1.1.1"]}, b""),
        ({b"forwarded": [b"for=2.2.2.2"], b"x-forwarded-for": [b"1.1.1.1"]}, b"1.1.1.1"),
    ],
)
def test_the_client_is_the_nearest_that_is_not_trusted(said: dict[bytes, list[bytes]], client: bytes) -> None:
    assert Strangers(("10.0.0.0/8",), ForwardingPolicy()).client(said) == client


def test_fields_for_an_ipv6_client() -> None:
    assert forwarded_fields(Hop(b"2001:db8::1", scheme=b"https", port=443), b"[::1]:443", {}) == (
        (b"X-Forwarded-For", b"2001:db8::1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"[::1]:443"),
        (b"X-Forwarded-Port", b"443"),
        (b"Forwarded", b'for="[2001:db8::1]";host="[::1]:443";proto=https'),
    )


def test_fields_for_a_client_without_address_or_host() -> None:
    assert forwarded_fields(Hop(b"unix:"), b"", {b"x-forwarded-for": [b"1.1.1.1"]}) == (
        (b"X-Forwarded-For", b"unknown"),
        (b"X-Forwarded-Proto", b"http"),
        (b"Forwarded", b"for=unknown;proto=http"),
    )


def test_a_trusted_peer_is_continued() -> None:
    hop = Hop(b"10.0.0.1", is_trusted=True)
    said = {b"x-forwarded-for": [b"1.1.1.1, 2.2.2.2", b"3.3.3.3"], b"x-forwarded-port": [b"8443"]}
    fields = dict(forwarded_fields(hop, b"h", said))
    assert fields[b"X-Forwarded-For"] == b"1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1"
    assert fields[b"X-Forwarded-Port"] == b"8443"
    assert dict(forwarded_fields(hop, b"h", {b"via": [b"x"]}))[b"X-Forwarded-For"] == b"10.0.0.1"


def test_what_was_written_is_written_again_only_for_the_same_host() -> None:
    hop = Hop(b"10.0.0.1")
    first = forwarded_fields(hop, b"a", {})
    assert forwarded_fields(hop, b"a", {}) is first
    assert dict(forwarded_fields(hop, b"b", {}))[b"X-Forwarded-Host"] == b"b"


def test_loops() -> None:
    check_loop([b"1.1 other, 1.0 pillion2", b"", b"pillion"], b"pillion")
    with pytest.raises(LoopDetected):
        check_loop([b"1.1 other, HTTP/1.1 pillion (comment)"], b"pillion")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (None, b""),
        ([b"a.B-9_"], b"a.B-9_"),
        ([b"a", b"b"], b""),
        ([b"a b"], b""),
        ([b"x" * 129], b""),
        ([b""], b""),
    ],
)
def test_request_ids(values: list[bytes] | None, name: bytes) -> None:
    assert read_request_id(values) == name


@pytest.mark.parametrize(
    ("values", "trace"),
    [
        (None, None),
        ([b"00-%b-00f067aa0ba902b7-01" % TRACE], (b"00-%b-" % TRACE, b"-01")),
        ([b"cc-%b-00f067aa0ba902b7-01-more" % TRACE], (b"00-%b-" % TRACE, b"-01")),
        ([b"00-%b-00f067aa0ba902b7-01-more" % TRACE], None),
        ([b"ff-%b-00f067aa0ba902b7-01" % TRACE], None),
        ([b"00-%b-00f067aa0ba902b7-01" % TRACE.upper()], None),
        ([b"00-%b-%b-01" % (TRACE, b"0" * 16)], None),
        ([b"00-%b-00f067aa0ba902b7-01" % (b"0" * 32)], None),
        ([b"00-%b-00f067aa0ba902b7-01" % TRACE] * 2, None),
    ],
)
def test_traces(values: list[bytes] | None, trace: tuple[bytes, bytes] | None) -> None:
    assert read_trace(values) == trace
