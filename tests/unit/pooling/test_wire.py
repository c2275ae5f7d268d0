from __future__ import annotations

import pytest

from proxy.errors import BadReply
from proxy.exchange import Call, Headers, Stream
from proxy.pooling.wire import (
    answer_head,
    encode_chunk,
    last_chunk,
    request_head,
    trailer_section,
    was_offered,
)

HOST: Headers = ((b"Host", b"model"),)


# ------------------------------------------------------------------ requests
def test_fields_are_written_as_they_came() -> None:
    headers = ((b"hOST", b"client"), (b"X-A", b"1"), (b"x-a", b""), (b"X-B", b"\xff"))
    head = request_head(Call(b"GET", b"/a%2Fb?q=%20", headers), b"model")
    assert head == b"GET /a%2Fb?q=%20 HTTP/1.1\r\nhOST: client\r\nX-A: 1\r\nx-a: \r\nX-B: \xff\r\n\r\n"


def test_host_may_stand_anywhere() -> None:
    head = request_head(Call(b"GET", b"/", ((b"X-A", b"1"), *HOST)), b"elsewhere")
    assert b"elsewhere" not in head


@pytest.mark.parametrize("headers", [(), ((b"X-A", b"1"),)])
def test_a_call_without_host_gets_the_endpoints(headers: Headers) -> None:
    head = request_head(Call(b"GET", b"/", headers), b"model:8000")
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: model:8000\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        (b"POST", b"{}", b"Content-Length: 2"),
        (b"GET", b"{}", b"Content-Length: 2"),
        (b"POST", b"", b"Content-Length: 0"),
        (b"PUT", b"", b"Content-Length: 0"),
        (b"PATCH", b"", b"Content-Length: 0"),
        (b"POST", Stream(None, 7), b"Content-Length: 7"),
        (b"POST", Stream(None, 0), b"Content-Length: 0"),
        (b"POST", Stream(None), b"Transfer-Encoding: chunked"),
    ],
)
def test_framing_is_made_from_the_body(method: bytes, body: bytes | Stream, framing: bytes) -> None:
    head = request_head(Call(method, b"/", HOST, body), b"model")
    assert head == method + b" / HTTP/1.1\r\nHost: model\r\n" + framing + b"\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
def test_no_body_where_none_is_expected_needs_no_framing(method: bytes) -> None:
    assert request_head(Call(method, b"/", HOST), b"model").endswith(b"Host: model\r\n\r\n")


def test_an_upgrade_is_asked_for_without_framing() -> None:
    call = Call(b"GET", b"/ws", HOST, Stream(None))
    call.upgrade = b"websocket"
    head = request_head(call, b"model")
    assert head.endswith(b"Host: model\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")


def test_chunks_and_their_end() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert last_chunk(()) == b"0\r\n\r\n"
    assert last_chunk(((b"Digest", b"1"), (b"X", b"2"))) == b"0\r\nDigest: 1\r\nX: 2\r\n\r\n"


# ------------------------------------------------------------------ answers
def test_end_to_end_fields_are_kept_in_order() -> None:
    head = answer_head(
        200,
        b"Fine",
        [(b"Set-Cookie", b"a"), (b"Connection", b"keep-alive"), (b"set-cookie", b"b"), (b"Trailer", b"X")],
        is_persistent=True,
        to_head=False,
    )
    assert head.headers == ((b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"Trailer", b"X"))
    assert (head.status, head.reason, head.keep_alive) == (200, b"Fine", True)


@pytest.mark.parametrize(
    "name",
    [b"Connection", b"KEEP-ALIVE", b"Proxy-Connection", b"Proxy-Authenticate", b"TE", b"Upgrade"],
)
def test_fields_of_one_hop_are_taken_out(name: bytes) -> None:
    head = answer_head(200, b"", [(name, b"x"), (b"A", b"1")], is_persistent=True, to_head=False)
    assert head.headers == ((b"A", b"1"),)


def test_fields_named_by_connection_are_taken_out() -> None:
    fields = [
        (b"Connection", b"X-Hop , close"),
        (b"x-hop", b"1"),
        (b"connection", b"x-too"),
        (b"X-Too", b"2"),
    ]
    head = answer_head(200, b"", [*fields, (b"A", b"1")], is_persistent=False, to_head=False)
    assert head.headers == ((b"A", b"1"),)


def test_framing_becomes_a_fact() -> None:
    head = answer_head(200, b"", [(b"Content-Length", b"12")], is_persistent=True, to_head=False)
    assert (head.headers, head.length, head.declared_length) == ((), 12, None)
    assert not head.ends_with_connection


def test_chunks_delimit_themselves() -> None:
    head = answer_head(200, b"", [(b"Transfer-Encoding", b" Chunked ")], is_persistent=True, to_head=False)
    assert (head.headers, head.length, head.ends_with_connection) == ((), None, False)


def test_without_framing_the_end_of_the_connection_counts() -> None:
    head = answer_head(200, b"", [], is_persistent=False, to_head=False)
    assert head.ends_with_connection
    assert not head.keep_alive


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"chunked, chunked", b"identity"])
def test_other_codings_are_refused(coding: bytes) -> None:
    with pytest.raises(BadReply, match="not supported"):
        answer_head(200, b"", [(b"Transfer-Encoding", coding)], is_persistent=True, to_head=False)


def test_an_answer_to_head_keeps_its_declared_length() -> None:
    head = answer_head(200, b"", [(b"Content-Length", b"12")], is_persistent=False, to_head=True)
    assert (head.has_body, head.length, head.declared_length) == (False, None, 12)
    assert head.keep_alive, "the parser counts on a body that does not come"


def test_an_answer_to_head_that_closes_closes() -> None:
    head = answer_head(200, b"", [(b"Connection", b"Close")], is_persistent=False, to_head=True)
    assert not head.keep_alive


def test_not_modified_keeps_its_declared_length() -> None:
    head = answer_head(304, b"", [(b"Content-Length", b"12")], is_persistent=True, to_head=False)
    assert (head.has_body, head.declared_length, head.keep_alive) == (False, 12, True)


def test_no_content_has_no_length_at_all() -> None:
    head = answer_head(204, b"", [(b"Content-Length", b"0")], is_persistent=True, to_head=False)
    assert (head.has_body, head.declared_length) == (False, None)


def test_switching_protocols_says_to_which() -> None:
    fields = [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x")]
    head = answer_head(101, b"", fields, is_persistent=True, to_head=False)
    assert head.headers == ((b"Sec-WebSocket-Accept", b"x"), (b"Upgrade", b"websocket"))


@pytest.mark.parametrize(
    ("value", "span_s"),
    [
        (b"timeout=5, max=100", 5.0),
        (b"max=1, Timeout = 7", 7.0),
        (b"timeout=x", None),
        (b"max=9", None),
        (b"", None),
    ],
)
def test_the_announced_keep_alive_is_read(value: bytes, span_s: float | None) -> None:
    head = answer_head(200, b"", [(b"Keep-Alive", value)], is_persistent=True, to_head=False)
    assert head.keep_alive_s == span_s


def test_a_status_below_100_is_not_http() -> None:
    with pytest.raises(BadReply, match="status 99"):
        answer_head(99, b"", [], is_persistent=True, to_head=False)


def test_control_characters_in_the_reason_are_refused() -> None:
    with pytest.raises(BadReply, match="reason"):
        answer_head(200, b"O\x00K", [], is_persistent=True, to_head=False)
    assert answer_head(200, b"Tr\xc3\xa8s\tbien", [], is_persistent=True, to_head=False).reason


def test_trailers_cannot_smuggle_framing() -> None:
    fields = [
        (b"X-Sum", b"1"),
        (b"Content-Length", b"0"),
        (b"transfer-encoding", b"chunked"),
        (b"Host", b"x"),
    ]
    assert trailer_section(fields) == ((b"X-Sum", b"1"),)


def test_a_switch_must_name_its_protocol() -> None:
    with pytest.raises(BadReply):
        answer_head(101, b"", [(b"Connection", b"Upgrade")], is_persistent=True, to_head=False)


@pytest.mark.parametrize(
    ("chosen", "offered", "was"),
    [
        (b"websocket", b"websocket", True),
        (b"WebSocket", b"x, websocket", True),
        (b"h2c", b"websocket", False),
        (b"websocket, h2c", b"websocket", False),
        (b",", b"websocket", False),
        (b"websocket", b"", False),
    ],
)
def test_a_switch_is_to_what_was_offered(chosen: bytes, offered: bytes, *, was: bool) -> None:
    head = answer_head(101, b"", [(b"upgrade", chosen), (b"A", b"b")], is_persistent=True, to_head=False)
    assert was_offered(head, offered) is was
