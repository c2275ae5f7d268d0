"""What a well-formed head means, and whether it may go on."""

from __future__ import annotations

import hashlib

import pytest

from proxy.errors import (
    BadRequest,
    BodyTooLarge,
    CodingNotSupported,
    ExpectationFailed,
    Forbidden,
    LoopDetected,
    MethodNotAllowed,
    Misdirected,
    ProxyError,
    Unauthorized,
)
from proxy.ingress.certificates import read_certificate
from proxy.ingress.forwarding import Hop
from proxy.ingress.head import Head, read_head
from proxy.ingress.policy import AuthPolicy, ForwardingPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules

RULES = HeadRules(LimitPolicy(), name="me")
STRICT = HeadRules(LimitPolicy(), forwarding=ForwardingPolicy(paths="strict", via="own"))
KEYED = HeadRules(LimitPolicy(), auth=AuthPolicy(keys=(hashlib.sha256(b"k").hexdigest(),)))
STRANGER = Hop(b"192.0.2.1")
TRUSTED = Hop(b"192.0.2.2", is_trusted=True)
ADDED = {b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Forwarded", b"Via"}


def read(
    line: bytes = b"GET / HTTP/1.1",
    *fields: bytes,
    host: bytes | None = b"h",
    rules: HeadRules = RULES,
    hop: Hop = STRANGER,
) -> Head:
    lines = [line, *((b"Host: " + host,) if host is not None else ()), *fields]
    return read_head(b"".join(each + b"\r\n" for each in lines), hop, rules)


def kept(head: Head) -> list[bytes]:
    """The fields that go on, less what the proxy adds and less Host."""
    return [b"%b: %b" % pair for pair in head.headers if pair[0] not in ADDED and pair[0] != b"Host"]


def test_a_plain_request() -> None:
    head = read()
    assert (head.method, head.target, head.http_version) == (b"GET", b"/", 11)
    assert head.keep_alive
    assert not head.has_body
    assert head.headers[0] == (b"Host", b"h")
    assert head.headers[-1] == (b"Via", b"1.1 me")


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://o:1/p?q HTTP/1.1", b"/p?q", b"o:1"),
        (b"GET HTTPS://o HTTP/1.1", b"/", b"o"),
        (b"OPTIONS http://o HTTP/1.1", b"*", b"o"),
        (b"GET http://o?q HTTP/1.1", b"/?q", b"o"),
        (b"OPTIONS * HTTP/1.1", b"*", b"h"),
    ],
)
def test_forms_of_a_target(line: bytes, target: bytes, host: bytes) -> None:
    head = read(line)
    assert head.target == target
    assert [value for name, value in head.headers if name.lower() == b"host"] == [host]


@pytest.mark.parametrize(
    ("fields", "keep_alive"),
    [((), False), ((b"Connection: keep-alive",), True), ((b"Connection: Keep-Alive, close",), False)],
)
def test_http_1_0_stays_only_when_asked(fields: tuple[bytes, ...], keep_alive: bool) -> None:
    head = read(b"GET / HTTP/1.0", *fields, host=None)
    assert head.keep_alive is keep_alive
    assert head.http_version == 10
    assert (b"Via", b"1.0 me") in head.headers


def test_wishes() -> None:
    head = read(
        b"POST / HTTP/1.1",
        b"Content-Length: 3",
        b"Expect: 100-Continue",
        b"TE: gzip, Trailers",
        b"Pillion-Debug: 1",
    )
    assert head.expects_continue
    assert head.wants_trailers
    assert head.wants_debug
    assert head.length == 3
    assert kept(head) == [b"TE: trailers"]
    assert not read(b"GET / HTTP/1.1", b"Expect: 100-continue").expects_continue
    assert not read(b"POST / HTTP/1.0", b"Content-Length: 3", b"Expect: magic").expects_continue


@pytest.mark.parametrize(
    ("fields", "upgrade"),
    [
        ((b"Connection: x, Upgrade", b"Upgrade: websocket"), b"websocket"),
        ((b"Connection: upgrade", b"Upgrade: a, h2c", b"Upgrade: b/1"), b"a, b/1"),
        ((b"Connection: upgrade", b"Upgrade: h2c"), b""),
        ((b"Connection: upgrade",), b""),
        ((b"Upgrade: websocket",), b""),
        ((b"Connection: notupgrade", b"Upgrade: websocket"), b""),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1"), b""),
    ],
)
def test_upgrades(fields: tuple[bytes, ...], upgrade: bytes) -> None:
    head = read(b"GET / HTTP/1.1", *fields)
    assert head.upgrade == upgrade
    assert kept(head) == []


def test_a_trailer_announcement_goes_with_chunks_only() -> None:
    chunked = read(b"POST / HTTP/1.1", b"Transfer-Encoding: Chunked", b"Trailer: A", b"Trailer: B")
    assert chunked.is_chunked
    assert chunked.has_body
    assert kept(chunked) == [b"Trailer: A, B"]
    assert kept(read(b"POST / HTTP/1.1", b"Content-Length: 1", b"Trailer: A")) == []


@pytest.mark.parametrize(("names", "sent_on"), [(b"Host, A,", [b"Trailer: A"]), (b"Content-Length", [])])
def test_trailers_that_are_dropped_are_not_announced(names: bytes, sent_on: list[bytes]) -> None:
    assert kept(read(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"Trailer: " + names)) == sent_on


def test_a_stranger_says_in_trailers_no_more_than_in_a_head() -> None:
    trailers = ((b"X_Forwarded_For", b"e"), (b"X.Real.IP", b"e"), (b"Remote-User", b"e"), (b"X-Sum", b"1"))
    assert RULES.trailers_of(STRANGER, trailers) == ((b"X-Sum", b"1"),)
    assert RULES.trailers_of(TRUSTED, trailers) == trailers
    assert RULES.trailers_of(STRANGER, ()) == ()


def test_nobody_reframes_or_redirects_a_message_behind_it() -> None:
    trailers = tuple(
        (name, b"1") for name in (b"Host", b"Content_Length", b"forwarded", b"Content.Type", b"A")
    )
    for hop in (STRANGER, TRUSTED):
        assert RULES.trailers_of(hop, trailers) == ((b"A", b"1"),)


@pytest.mark.parametrize(
    ("value", "is_for_us", "sent_on"),
    [
        (b"0", True, None),
        (b"00", True, None),
        (b"3", False, b"2"),
        (b"x", False, b"x"),
        (b"9" * 12, False, b"9" * 12),
    ],
)
def test_max_forwards_of_options(value: bytes, is_for_us: bool, sent_on: bytes | None) -> None:
    head = read(b"OPTIONS / HTTP/1.1", b"Max-Forwards: " + value)
    assert head.is_for_us is is_for_us
    if sent_on is not None:
        assert kept(head) == [b"Max-Forwards: " + sent_on]


def test_max_forwards_of_other_methods_is_not_ours() -> None:
    head = read(b"GET / HTTP/1.1", b"Max-Forwards: 0")
    assert not head.is_for_us
    assert kept(head) == [b"Max-Forwards: 0"]


def test_a_history_that_is_unsafe_is_dropped() -> None:
    head = read(b"GET / HTTP/1.1", b"X-Request-Id: a b", b"traceparent: x", b"tracestate: y", b"A: b")
    assert (head.request_id, head.trace) == (b"", None)
    assert kept(head) == [b"A: b"]


def test_identity_fields_are_for_trusted_peers() -> None:
    fields = (b"X-Forwarded-User: u", b"Remote_User: u", b"Remote-User: u")
    assert kept(read(b"GET / HTTP/1.1", *fields)) == []
    assert kept(read(b"GET / HTTP/1.1", *fields, hop=TRUSTED)) == list(fields)


def test_a_key_is_asked_for_and_ends_here() -> None:
    head = read(b"GET / HTTP/1.1", b"Authorization: Bearer k", rules=KEYED)
    assert head.identity == hashlib.sha256(b"k").digest()
    assert kept(head) == []
    with pytest.raises(Unauthorized):
        read(rules=KEYED)


def test_the_memory_of_field_names_is_bounded() -> None:
    rules = HeadRules(LimitPolicy())
    for start in range(0, 3000, 50):
        read(b"GET / HTTP/1.1", *(b"X-%d: 1" % number for number in range(start, start + 50)), rules=rules)
    assert len(rules.places) <= 1024


def test_the_name_in_via_can_be_chosen_or_left_out() -> None:
    assert STRICT.via == b"own"
    off = HeadRules(LimitPolicy(), forwarding=ForwardingPolicy(via="off"))
    assert all(name != b"Via" for name, _ in read(rules=off).headers)


@pytest.mark.parametrize(
    "path",
    [
        b"/a/../b",
        b"/.",
        b"//",
        b"/a%2Fb",
        b"/%2e",
        b"/;",
        b"/a\\",
        b"/%00",
        b"/%C0%AE",
        b"/%e0%80%af",
        b"/%f0%80%80%af",
        b"/a.",
    ],
)
def test_strict_paths(path: bytes) -> None:
    read(b"GET %b HTTP/1.1" % path)
    with pytest.raises(BadRequest):
        read(b"GET %b HTTP/1.1" % path, rules=STRICT)
    read(b"GET /x?%b HTTP/1.1" % path, rules=STRICT)


def test_the_host_must_be_the_one_of_the_handshake() -> None:
    hop = Hop(b"192.0.2.1", scheme=b"https", server_name=b"model.example")
    for host in (b"model.example", b"MODEL.example:8443", b"model.example.", b"model.example.:1"):
        read(host=host, hop=hop)
    with pytest.raises(Misdirected):
        read(host=b"other.example", hop=hop)


@pytest.mark.parametrize(
    ("line", "fields", "error"),
    [
        (b"CONNECT h:1 HTTP/1.1", (), MethodNotAllowed),
        (b"TRACE / HTTP/1.1", (), MethodNotAllowed),
        (b"GET /#x HTTP/1.1", (), BadRequest),
        (b"GET * HTTP/1.1", (), BadRequest),
        (b"GET h:1 HTTP/1.1", (), BadRequest),
        (b"GET http:///x HTTP/1.1", (), BadRequest),
        (b"GET http://u@o/ HTTP/1.1", (), BadRequest),
        (b"GET / HTTP/1.1", (b"Host: h",), BadRequest),
        (b"POST / HTTP/1.1", (b"Content-Length: 1", b"Transfer-Encoding: chunked"), BadRequest),
        (b"POST / HTTP/1.0", (b"Transfer-Encoding: chunked",), BadRequest),
        (b"POST / HTTP/1.1", (b"Transfer-Encoding:  chunked",), BadRequest),
        (b"POST / HTTP/1.1", (b"Transfer-Encoding: gzip, chunked",), CodingNotSupported),
        (b"POST / HTTP/1.1", (b"Content-Length: 1", b"Content-Length: 1"), BadRequest),
        (b"POST / HTTP/1.1", (b"Content-Length: 1x",), BadRequest),
        (b"POST / HTTP/1.1", (b"Content-Length: 99999999999",), BodyTooLarge),
        (b"POST / HTTP/1.1", (b"Content_Length: 1",), BadRequest),
        (b"POST / HTTP/1.1", (b"Transfer.Encoding: chunked",), BadRequest),
        (b"POST / HTTP/1.1", (b"Content-Length: 1", b"Expect: 100-continue, x"), ExpectationFailed),
        (b"GET / HTTP/1.1", (b"Via: 1.1 me",), LoopDetected),
        (b"OPTIONS / HTTP/1.1", (b"Max-Forwards: 3", b"Max-Forwards: 0"), BadRequest),
    ],
)
def test_refused(line: bytes, fields: tuple[bytes, ...], error: type[ProxyError]) -> None:
    with pytest.raises(error):
        read(line, *fields)


@pytest.mark.parametrize(
    "host", [b"h:65536", b"[1.2.3]", b"[::1", b"a,b", b"a%00", b"a%zz", b"a%1f", b"[::1]x"]
)
def test_a_host_must_be_one(host: bytes) -> None:
    with pytest.raises(BadRequest):
        read(host=host)


@pytest.mark.parametrize("host", [b"h:65535", b"[::1]", b"[::ffff:1.2.3.4]:80", b"a%20b", b"h:", b""])
def test_hosts_of_all_kinds(host: bytes) -> None:
    assert read(host=host).headers[0] == (b"Host", host)


def test_a_host_is_required_by_http_1_1() -> None:
    with pytest.raises(BadRequest):
        read(host=None)
    with pytest.raises(BadRequest):
        read(host=b"a b")


def test_only_a_trusted_peer_says_who_the_client_is() -> None:
    said = b"X-Forwarded-For: 198.51.100.7"
    assert read(b"GET / HTTP/1.1", said, hop=TRUSTED).client == b"198.51.100.7"
    assert read(b"GET / HTTP/1.1", hop=TRUSTED).client == b""
    assert read(b"GET / HTTP/1.1", said).client == b""


def test_a_host_that_was_good_before_is_looked_at_for_what_else_it_is_with() -> None:
    hop = Hop(b"192.0.2.1", server_name=b"h")
    for sent in (b"GET / HTTP/1.1\r\nHost: h\r\n", b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n"):
        assert read_head(sent, hop, RULES).method == b"GET"
    for sent, error in (
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n", BadRequest),
        (b"GET http://h:99999/ HTTP/1.1\r\nHost: h\r\n", BadRequest),
        (b"GET http://o/ HTTP/1.1\r\nHost: h\r\n", Misdirected),
        (b"GET / HTTP/1.1\r\n", BadRequest),
        (b"GET / HTTP/1.1\r\nHost: o\r\n", Misdirected),
        (b"GET / HTTP/1.1\r\nHost: o\r\n", Misdirected),
    ):
        with pytest.raises(error):
            read_head(sent, hop, RULES)


@pytest.mark.parametrize(
    ("value", "keeps_alive", "kept"),
    [
        (b"keep-alive", True, (b"X-A", b"Close")),
        (b"Close", False, (b"X-A", b"Close")),
        (b"close, X-A", False, (b"Close",)),
        (b"x-a", True, (b"Close",)),
    ],
)
def test_what_connection_says(value: bytes, keeps_alive: bool, kept: tuple[bytes, ...]) -> None:
    block = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: %b\r\nX-A: 1\r\nClose: 2\r\n" % value
    head = read_head(block, Hop(b"192.0.2.1"), RULES)
    assert head.keep_alive is keeps_alive
    names = [name for name, _ in head.headers]
    assert tuple(name for name in (b"X-A", b"Close") if name in names) == kept


CERTIFICATE = read_certificate({"subjectAltName": (("DNS", "client.example.org"),)}, b"der")


@pytest.mark.parametrize("is_told", [False, True])
def test_the_backend_is_told_of_a_certificate_where_that_is_wanted(is_told: bool) -> None:
    rules = HeadRules(LimitPolicy(), forwarding=ForwardingPolicy(client_cert=is_told), trusted=["192.0.2.1"])
    hop = rules.hop(b"192.0.2.1", scheme=b"https", port=443, certificate=CERTIFICATE)
    assert hop.certificate == b"client.example.org"
    head = read_head(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Client-Cert: URI=a\r\n", hop, rules)
    (told,) = [value for name, value in head.headers if name == b"X-Forwarded-Client-Cert"]
    assert told == (b"URI=a," + CERTIFICATE.element if is_told else b"URI=a")


def test_a_client_that_may_not_call() -> None:
    hop = RULES.hop(b"192.0.2.1", scheme=b"https", port=443, certificate=CERTIFICATE)
    hop.is_accepted = False
    with pytest.raises(Forbidden):
        read_head(b"GET / HTTP/1.1\r\nHost: h\r\n", hop, RULES)
