"""Messages that two servers could read in two ways: refused, and nothing behind them is looked at."""

from __future__ import annotations

from tests.integration.http.cases_bodies import chunked
from tests.integration.http.cases_requests import OK, get, refused
from tests.integration.http.conformance import Case
from tests.support.wire import response

__all__ = ("CASES",)

NOT_IMPLEMENTED = "501 Not Implemented"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(b"/", *lines, method=b"POST") + body


def framed(title: str, *lines: bytes, body: bytes = b"0\r\n\r\n", status: str = "400 Bad Request") -> Case:
    return refused("S1", title, post(*lines, body=body), status)


LENGTHS = tuple(
    framed(f"Content-Length: {text.decode('latin-1')!r}", b"Content-Length: " + text, body=b"abc")
    for text in (
        b"3, 3",
        b"3,4",
        b"+3",
        b"-1",
        b"0x3",
        b"3 4",
        b"",
        b"3.0",
        b"1" * 20,
        b"\xb2",
        b"3;",
        b"three",
    )
)

CODINGS = tuple(
    framed(
        f"Transfer-Encoding: {text.decode('latin-1')!r}",
        b"Transfer-Encoding: " + text,
        status=NOT_IMPLEMENTED,
    )
    for text in (
        b"xchunked",
        b"chunked, identity",
        b"chunked, chunked",
        b"identity",
        b"gzip",
        b"chunked;q=1",
        b"",
        b'"chunked"',
    )
)

HEADS = (
    framed("Content-Length beside Transfer-Encoding", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    framed("Transfer-Encoding beside Content-Length", b"Transfer-Encoding: chunked", b"Content-Length: 3"),
    framed("two equal Content-Lengths", b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    framed("two Content-Lengths", b"Content-Length: 3", b"Content-Length: 4", body=b"abc"),
    framed(
        "Transfer-Encoding in two fields",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        status=NOT_IMPLEMENTED,
    ),
    framed("Transfer-Encoding with a vertical tab", b"Transfer-Encoding: \x0bchunked"),
    framed("Transfer-Encoding with a tab behind", b"Transfer-Encoding: chunked\t"),
    framed("Transfer-Encoding with two spaces before", b"Transfer-Encoding:  chunked"),
    framed("white space before the colon", b"Transfer-Encoding : chunked"),
    framed("a folded Transfer-Encoding", b"Transfer-Encoding:\r\n chunked"),
    framed("a folded field", b"A: b\r\n c"),
    framed("Transfer_Encoding", b"Transfer_Encoding: chunked"),
    framed("Transfer.Encoding", b"Transfer.Encoding: chunked"),
    framed("Content_Length", b"Content_Length: 3", b"Content-Length: 0"),
    framed("a NUL in a value", b"A: b\0c"),
    framed("a control character in a value", b"A: b\x01c"),
    framed("DEL in a value", b"A: b\x7fc"),
    framed("a lone CR in a value", b"A: b\rTransfer-Encoding: chunked"),
    framed("a bare LF between fields", b"A: b\nTransfer-Encoding: chunked"),
    framed("a space in a field's name", b"A B: c"),
    framed("a field without a name", b": c"),
    framed("a line without a colon", b"A"),
    framed("a non-ASCII field name", b"\xc4: c"),
    refused(
        "S1",
        "Transfer-Encoding in HTTP/1.0",
        b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused("S1", "a bare LF behind the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    refused("S1", "bare LFs only", b"GET / HTTP/1.1\nHost: h\n\n"),
    refused("S1", "white space before the first field", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n"),
    refused("S1", "two spaces in the request line", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "a tab in the request line", b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "a space in the target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "white space behind the version", b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n"),
    refused("S1", "white space before the method", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "a NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
)

CHUNKS = tuple(
    refused("S1", f"chunk: {title}", chunked(body))
    for title, body in (
        ("a negative size", b"-1\r\nabc\r\n0\r\n\r\n"),
        ("a size with 0x", b"0x3\r\nabc\r\n0\r\n\r\n"),
        ("a size with a sign", b"+3\r\nabc\r\n0\r\n\r\n"),
        ("a size that overflows", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("no size", b"\r\nabc\r\n0\r\n\r\n"),
        ("white space before the size", b" 3\r\nabc\r\n0\r\n\r\n"),
        ("white space behind the size", b"3 \r\nabc\r\n0\r\n\r\n"),
        ("a bare LF behind the size", b"3\nabc\r\n0\r\n\r\n"),
        ("a bare LF behind the data", b"3\r\nabc\n0\r\n\r\n"),
        ("a bare LF in an extension", b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("a lone CR in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
        ("data longer than its size", b"3\r\nabcd\r\n0\r\n\r\n"),
        ("data shorter than its size", b"5\r\nabc\r\n0\r\n\r\n"),
        ("extensions without end", b"1;" + b"a" * 5000 + b"\r\nx\r\n0\r\n\r\n"),
        ("a folded trailer", b"0\r\nA: b\r\n c\r\n\r\n"),
        ("a bare LF in the trailers", b"0\r\nA: b\nC: d\r\n\r\n"),
        ("a bare LF at the end", b"0\r\n\n"),
    )
)

DEAD_ENDS = (
    Case(
        "S1",
        "GET with a body: the body is no request",
        get(b"/", b"Content-Length: 40") + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n12345",
        "GET / HTTP/1.1 | {GET /smuggled HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n12345}",
        OK,
    ),
    Case(
        "S1",
        "a split answer",
        get(),
        "GET / HTTP/1.1",
        "502 Bad Gateway ‖ open",
        (b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: x\r\nContent-Length: 0\r\n\r\n",),
    ),
    Case(
        "S1",
        "surplus bytes behind an answer reach nobody",
        get(b"/1") + get(b"/2"),
        "GET /1 HTTP/1.1 ‖ GET /2 HTTP/1.1",
        "200 OK | {one} ‖ 200 OK | {two} ‖ open",
        (response(b"one") + response(b"poison"), response(b"two")),
    ),
    *(
        Case(
            "S9",
            f"{name.decode()} does not choose the server",
            get(b"/", name + b": 127.0.0.1:1"),
            "GET / HTTP/1.1",
            OK,
        )
        for name in (b"X-Forwarded-Host", b"X-Original-URL", b"X-Host", b"X-Forwarded-Server")
    ),
    *(
        refused(
            "S10", f"strict paths: `{path.decode()}`", get(path), settings={"forwarding": {"paths": "strict"}}
        )
        for path in (
            b"/a/../b",
            b"/./a",
            b"/a/..",
            b"//a",
            b"/a%2fb",
            b"/a%2Fb",
            b"/%2e%2e/a",
            b"/a;b",
            b"/a\\b",
            b"/a%5cb",
            b"/%00",
            b"/%c0%af",
            b"/%e0%80%af",
            b"/%F0%80%80%AF",
            b"/a./b",
        )
    ),
    *(
        Case(
            "S10",
            f"strict paths: `{path.decode()}` passes",
            get(path),
            f"GET {path.decode()} HTTP/1.1",
            OK,
            settings={"forwarding": {"paths": "strict"}},
        )
        for path in (b"/a/b.c/d", b"/v1/models/m:predict?x=../y", b"/.well-known/x")
    ),
    Case(
        "S12",
        "a stranger's identity fields are removed",
        get(
            b"/",
            b"X-Forwarded-User: root",
            b"x-auth-request-email: a@b",
            b"Remote-User: root",
            b"X_Remote_User: root",
            b"X.Remote.User: root",
            b"X-Mine: 1",
            b"X.Mine: 2",
        ),
        "GET / HTTP/1.1 | X-Mine: 1 | X.Mine: 2",
        OK,
        show=(
            b"x-forwarded-user",
            b"x-auth-request-email",
            b"remote-user",
            b"x_remote_user",
            b"x.remote.user",
            b"x-mine",
            b"x.mine",
        ),
    ),
    Case(
        "S12",
        "a trusted proxy's identity fields go on",
        get(b"/", b"X-Forwarded-User: ann", b"Remote-User: ann"),
        "GET / HTTP/1.1 | X-Forwarded-User: ann | Remote-User: ann",
        OK,
        show=(b"x-forwarded-user", b"remote-user"),
        settings={"trusted_proxies": ("127.0.0.1",)},
    ),
)

# The digest of: sesame
KEYS: dict[str, object] = {
    "auth": {"keys": ("sha256:d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272",)}
}
KEY_CASES = (
    Case(
        "S17",
        "an accepted key, which is not forwarded",
        get(b"/", b"Authorization: Bearer sesame"),
        "GET / HTTP/1.1",
        OK,
        show=(b"authorization",),
        settings=KEYS,
    ),
    refused("S17", "no key", get(), "401 Unauthorized", settings=KEYS),
    refused(
        "S17", "another key", get(b"/", b"Authorization: Bearer Sesame"), "401 Unauthorized", settings=KEYS
    ),
    refused(
        "S17", "another scheme", get(b"/", b"Authorization: Basic sesame"), "401 Unauthorized", settings=KEYS
    ),
    refused(
        "S17",
        "two keys",
        get(b"/", b"Authorization: Bearer sesame", b"Authorization: Bearer x"),
        "401 Unauthorized",
        settings=KEYS,
    ),
    Case(
        "S17",
        "without keys in the configuration the field goes on",
        get(b"/", b"Authorization: Bearer x"),
        "GET / HTTP/1.1 | Authorization: Bearer x",
        OK,
        show=(b"authorization",),
    ),
)

CASES = LENGTHS + CODINGS + HEADS + CHUNKS + DEAD_ENDS + KEY_CASES
