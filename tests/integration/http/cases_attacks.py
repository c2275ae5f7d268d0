"""Further messages that an attacker would try, on either side: beyond the listed variants of each item."""

from __future__ import annotations

from tests.integration.http.cases_bodies import HEAD, chunked
from tests.integration.http.cases_requests import OK, get, refused
from tests.integration.http.conformance import NOTHING, Case
from tests.support.wire import response

__all__ = ("CASES",)

FRAMING = (b"content-length", b"transfer-encoding", b"trailer", b"te", b"connection", b"upgrade")
ANSWERED = (b"connection", b"upgrade")
BAD_REPLY = "502 Bad Gateway ‖ open"
GET = get()
UPGRADE = get(b"/", b"Connection: Upgrade", b"Upgrade: websocket")
ASKED = "GET / HTTP/1.1 | Connection: Upgrade | Upgrade: websocket"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(b"/", *lines, method=b"POST") + body


def passed(item: str, title: str, sent: bytes, backend: str, client: str) -> Case:
    return Case(item, title, sent, backend, client, show=FRAMING)


LINES = (
    *(
        refused("S1", f"request line: {title}", line + b"\r\nHost: h\r\n\r\n")
        for title, line in (
            ("no target", b"GET HTTP/1.1"),
            ("an empty target", b"GET  HTTP/1.1"),
            ("words behind the version", b"GET / HTTP/1.1 x"),
            ("a version with a leading zero", b"GET / HTTP/01.1"),
            ("a version without a minor", b"GET / HTTP/1"),
            ("another protocol", b"GET / ICY/1.1"),
            ("CR before its CRLF", b"GET / HTTP/1.1\r"),
            ("a vertical tab for a space", b"GET\x0b/ HTTP/1.1"),
            ("a CR for a space", b"GET\r/ HTTP/1.1"),
            ("DEL in the target", b"GET /\x7f HTTP/1.1"),
            ("a quoted method", b'"GET" / HTTP/1.1'),
        )
    ),
    refused("S1", "an LF before the request line", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    refused("S1", "CRs only", b"GET / HTTP/1.1\rHost: h\r\r"),
    refused("S1", "a form feed in a value", get(b"/", b"A: b\x0cc")),
    refused("S1", "a vertical tab before a field", get(b"/", b"\x0bA: b")),
    refused("S1", "NUL behind a name", post(b"Content-Length\x00: 2", body=b"hi")),
    refused("S1", "CR behind a value", get(b"/", b"A: b\r")),
    refused("S5", "a method of 20,000 letters", get(b"/", method=b"G" * 20_000), "501 Not Implemented"),
    refused(
        "S5", "a line of 9,000 bytes", get(b"/", b"A: " + b"a" * 9000), "431 Request Header Fields Too Large"
    ),
    refused(
        "S5",
        "a cookie of 9,000 bytes",
        get(b"/", b"Cookie: " + b"a" * 9000),
        "431 Request Header Fields Too Large",
    ),
)

TARGETS = (
    refused("2", "absolute form without a host", get(b"http:///p")),
    refused("2", "absolute form with a port that is none", get(b"http://h:99999/p")),
    refused("2", "absolute form with a fragment", get(b"http://h/p#x")),
    refused("2", "absolute form does not replace a missing Host", b"GET http://h/ HTTP/1.1\r\n\r\n"),
    refused("2", "absolute form with a space in its host", b"GET http://a b/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    Case("2", "absolute form of https", get(b"https://o/p"), "GET /p HTTP/1.1 | Host: o", OK, show=(b"host",)),
    Case("4", "OPTIONS of an absolute form without a path", get(b"http://o", method=b"OPTIONS"),
         "OPTIONS * HTTP/1.1", OK),
    refused("3", "CONNECT with a path", get(b"/p", method=b"CONNECT"), "405 Method Not Allowed"),
    refused("5", "TRACE with Max-Forwards: 0", get(b"/", b"Max-Forwards: 0", method=b"TRACE"),
            "405 Method Not Allowed"),
    *(
        refused("11", f"Host: {host.decode('latin-1')!r}", get(host=host))
        for host in (b"a, b", b"a,b", b"h:99999", b"[1.2.3]", b"[::1]x", b"a%00b", b"a%0db", b"a%zz", b"\xe4",
                     b"http://h", b"h:-1", b"h:+80", b"[]")
    ),
    refused("11", "two different Hosts", get(b"/", b"host: evil")),
    refused("11", "two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    refused("16", "two Max-Forwards", get(b"/", b"Max-Forwards: 3", b"Max-Forwards: 0", method=b"OPTIONS")),
    Case("16", "a Max-Forwards that is no number is left alone",
         get(b"/", b"Max-Forwards: x", method=b"OPTIONS"), "OPTIONS / HTTP/1.1 | Max-Forwards: x", OK,
         show=(b"max-forwards",)),
)  # fmt: skip

FRAMINGS = (
    *(
        refused("S1", f"Transfer-Encoding: {text.decode()!r}", post(b"Transfer-Encoding: " + text), status)
        for text, status in (
            (b"chunked,", "501 Not Implemented"),
            (b",chunked", "501 Not Implemented"),
            (b"chunked ,", "501 Not Implemented"),
            (b"\tchunked", "400 Bad Request"),
            (b"chunked ", "400 Bad Request"),
            (b"chunked\x0b", "400 Bad Request"),
            (b"identity, chunked", "501 Not Implemented"),
            (b"chunked;", "501 Not Implemented"),
        )
    ),
    refused("S1", "identity beside Content-Length",
            post(b"Transfer-Encoding: identity", b"Content-Length: 2", body=b"hi")),
    *(
        refused("S1", f"Content-Length: {text!r}", post(b"Content-Length: " + text.encode(), body=b"hi"))
        for text in ("2\x0b", "\u0662", "2,", ",2", "2, 2", "1e1", "0b10", "2_0", "-0", "++2")
    ),
    refused("S1", "a Content-Length beyond any", post(b"Content-Length: 999999999999999999"),
            "413 Content Too Large"),
    passed("22", "leading zeros in a Content-Length", post(b"Content-Length: 0002", body=b"hi"),
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("22", "Transfer-Encoding in capitals", post(b"TRANSFER-ENCODING:CHUNKED", body=b"2\r\nhi\r\n0\r\n\r\n"),
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("18", "Connection: Transfer-Encoding",
           post(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n"),
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("17", "TE that does not take trailers", get(b"/", b"Connection: TE", b"TE: gzip;q=1"),
           "GET / HTTP/1.1", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    *(
        refused("23", f"chunk: {title}", chunked(body))
        for title, body in (
            ("17 digits that are zeros", b"00000000000000002\r\nhi\r\n0\r\n\r\n"),
            ("white space before an extension", b"2 ;a\r\nhi\r\n0\r\n\r\n"),
            ("a quoted extension over a line end", b'2;a="\r\n"\r\nhi\r\n0\r\n\r\n'),
            ("a control character in an extension", b"2;a=\x01\r\nhi\r\n0\r\n\r\n"),
            ("a line end in place of the size", b"2\r\nhi\r\n\r\n0\r\n\r\n"),
            ("LFs at the end", b"2\r\nhi\r\n0\n\n"),
            ("a size in another alphabet", "\uff12\r\nhi\r\n0\r\n\r\n".encode()),
            ("a trailer without a colon", b"0\r\nA\r\n\r\n"),
            ("a trailer with white space before the colon", b"0\r\nA : b\r\n\r\n"),
            ("a request in place of a trailer", b"0\r\nGET /s HTTP/1.1\r\nHost: h\r\n\r\n"),
        )
    ),
    passed("23", "a last chunk of many zeros", chunked(b"2\r\nhi\r\n0000\r\n\r\n"),
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("24", "forbidden trailers are not announced either",
           chunked(b"1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n", b"Trailer: Content-Length, X-Sum,"),
           "POST / HTTP/1.1 | Trailer: X-Sum | Transfer-Encoding: chunked | {x} | + X-Sum: 1",
           "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("S12", "identity fields do not come in as trailers",
           chunked(b"1\r\nx\r\n0\r\nX-Real-IP: evil\r\nX_Forwarded_For: evil\r\nX-Sum: 1\r\n\r\n"),
           "POST / HTTP/1.1 | Transfer-Encoding: chunked | {x} | + X-Sum: 1",
           "200 OK | Content-Length: 2 | {ok} ‖ open"),
    Case("S2", "nothing behind a refused request of a pipeline is served",
         get(b"/1") + get(host=b"a b") + get(b"/smuggled"), "GET /1 HTTP/1.1",
         "200 OK | {ok} ‖ 400 Bad Request ‖ closed"),
    passed("42", "a request to upgrade that has a body is an ordinary one",
           post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2", body=b"hi"),
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}", "200 OK | Content-Length: 2 | {ok} ‖ open"),
    passed("42", "an upgrade of HTTP/1.0 is none",
           b"GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1",
           "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    passed("42", "of the protocols offered h2c goes no further",
           get(b"/", b"Connection: Upgrade", b"Upgrade: h2c, websocket"), ASKED,
           "200 OK | Content-Length: 2 | {ok} ‖ open"),
    *(
        refused("32", f"Expect: {text.decode()!r}", post(b"Expect: " + text, b"Content-Length: 2", body=b"hi"),
                "417 Expectation Failed")
        for text in (b"", b"200-ok", b"100-continue, x", b"100-continue=1")
    ),
    passed("32", "an expectation of HTTP/1.0 is ignored",
           b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
           "POST / HTTP/1.1 | Content-Length: 2 | {hi}",
           "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    passed("40", "Connection: keep-alive, close", get(b"/", b"Connection: keep-alive, close"), "GET / HTTP/1.1",
           "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    passed("40", "Proxy-Connection keeps nothing alive", b"GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n",
           "GET / HTTP/1.1", "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    Case("22", "a chunked body that ends without its empty line", chunked(b"2\r\nhi\r\n0\r\n"), NOTHING,
         "400 Bad Request ‖ closed", half_close=True),
    Case("38", "half a head", b"GET / HT", NOTHING, "400 Bad Request ‖ closed", half_close=True),
    *(
        Case("38", f"{title} behind a request", GET + sent, "GET / HTTP/1.1",
             "200 OK | {ok} ‖ 400 Bad Request ‖ closed", half_close=True)
        for title, sent in (("half a head", b"GET / HT"), ("a malformed head", b"GET / HTTP/1.1\r\nA\r\n\r\n"))
    ),
)  # fmt: skip


def reply(
    title: str,
    answer: bytes,
    client: str = BAD_REPLY,
    *,
    item: str = "48",
    sent: bytes = GET,
    backend: str = "GET / HTTP/1.1",
) -> Case:
    show = ANSWERED if client == BAD_REPLY else FRAMING
    return Case(item, f"backend: {title}", sent, backend, client, (answer,), show=show)


LENGTH = b"Content-Length: 2\r\n\r\nhi"
ANSWERS = (
    *(
        reply(title, line + b"\r\n" + LENGTH)
        for title, line in (
            ("HTTP/0.9", b"HTTP/0.9 200 OK"),
            ("HTTP/2.0", b"HTTP/2.0 200 OK"),
            ("HTTP/1.2", b"HTTP/1.2 200 OK"),
            ("another protocol", b"RTSP/1.0 200 OK"),
            ("a status of two digits", b"HTTP/1.1 99 Odd"),
            ("a status of four digits", b"HTTP/1.1 2000 Odd"),
            ("a status that is no number", b"HTTP/1.1 20x Odd"),
            ("a status of zeros", b"HTTP/1.1 000 Odd"),
            ("words before the version", b"xxHTTP/1.1 200 OK"),
            ("a reason with a control character", b"HTTP/1.1 200 O\x01K"),
        )
    ),
    *(
        reply(title, HEAD + lines + b"\r\n" + LENGTH, item="S1")
        for title, lines in (
            ("a bare LF between fields", b"A: b\nSet-Cookie: x"),
            ("a NUL in a value", b"A: b\0c"),
            ("a control character in a value", b"A: b\x01c"),
            ("a folded field", b"A: b\r\n c"),
            ("white space before a colon", b"A : b"),
            ("a line without a colon", b"A"),
            ("a name that is no token", b"A(b: c"),
            ("two different lengths", b"Content-Length: 3"),
            ("two equal lengths", b"Content-Length: 2"),
        )
    ),
    *(
        reply(f"Content-Length: {text!r}", HEAD + b"Content-Length: " + text + b"\r\n\r\nhi", item="S1")
        for text in (b"+2", b"-1", b"2, 2", b"0x2", b"2 2", b"")
    ),
    reply("a length beside chunks", HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
          item="S1"),
    *(
        reply(f"Transfer-Encoding: {text.decode()}",
              HEAD + b"Transfer-Encoding: " + text + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n", item="36")
        for text in (b"gzip, chunked", b"identity", b"chunked, chunked", b"xchunked")
    ),
    *(
        reply(f"chunk: {title}", HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body, item="S1")
        for title, body in (
            ("garbage for a size", b"2\r\nhi\r\nzz\r\n"),
            ("a negative size", b"-2\r\nhi\r\n0\r\n\r\n"),
            ("bare LFs", b"2\nhi\n0\n\n"),
            ("a size that overflows", b"ffffffffffffffffff\r\nhi"),
            ("data longer than its size", b"2\r\nhip\r\n0\r\n\r\n"),
        )
    ),
    reply("chunk extensions are dropped", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n",
          "200 OK | Content-Length: 2 | {hi} ‖ open", item="29"),
    reply("an answer without a reason", b"HTTP/1.1 200\r\n" + LENGTH, "200 OK | Content-Length: 2 | {hi} ‖ open"),
    reply("Connection names a field", HEAD + b"Connection: Content-Length, A\r\nA: b\r\n" + LENGTH,
          "200 OK | Content-Length: 2 | {hi} ‖ open", item="18"),
    reply("Upgrade without a switch", HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH,
          "200 OK | Content-Length: 2 | {hi} ‖ open", item="17"),
    reply("a switch that nobody asked for",
          b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nxx", item="33"),
    *(
        reply(title, b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\nxx", item="42", sent=UPGRADE,
              backend=ASKED)
        for title, lines in (
            ("a switch to another protocol than asked for", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
            ("a switch to one protocol asked for and another",
             b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
            ("a switch that names no protocol", b"\r\n"),
        )
    ),
)  # fmt: skip

SURPLUS = tuple(
    Case("44", f"backend: {title} reaches nobody", sent + get(b"/2"), backend, client, (answer, response(b"two")),
         show=(b"content-length",))
    for title, sent, backend, answer, client in (
        ("a body to HEAD", get(b"/", method=b"HEAD"), "HEAD / HTTP/1.1 ‖ GET /2 HTTP/1.1", response(b"hi"),
         "200 OK | Content-Length: 2 ‖ 200 OK | Content-Length: 3 | {two} ‖ open"),
        ("a body to 204", get(), "GET / HTTP/1.1 ‖ GET /2 HTTP/1.1", response(b"hi", status=b"204 No Content"),
         "204 No Content ‖ 200 OK | Content-Length: 3 | {two} ‖ open"),
        ("a body to 304", get(), "GET / HTTP/1.1 ‖ GET /2 HTTP/1.1", response(b"hi", status=b"304 Not Modified"),
         "304 Not Modified | Content-Length: 2 ‖ 200 OK | Content-Length: 3 | {two} ‖ open"),
        ("an interim answer behind the answer", get(), "GET / HTTP/1.1 ‖ GET /2 HTTP/1.1",
         response(b"one") + b"HTTP/1.1 100 Continue\r\n\r\n",
         "200 OK | Content-Length: 3 | {one} ‖ 200 OK | Content-Length: 3 | {two} ‖ open"),
        ("a last chunk behind a 304", get(), "GET / HTTP/1.1 ‖ GET /2 HTTP/1.1",
         b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "304 Not Modified ‖ 200 OK | Content-Length: 3 | {two} ‖ open"),
    )
)  # fmt: skip

CASES = LINES + TARGETS + FRAMINGS + ANSWERS + SURPLUS
