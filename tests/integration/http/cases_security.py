"""Messages at the borders of what is allowed, on either side, and what must not lead anywhere."""

from __future__ import annotations

from tests.integration.http.cases_attacks import FRAMING, GET, UPGRADE, passed, post, reply
from tests.integration.http.cases_bodies import HEAD, chunked
from tests.integration.http.cases_requests import OK, get, refused
from tests.integration.http.conformance import NOTHING, Case
from tests.support.wire import response

__all__ = ("CASES",)

FINE = "200 OK | Content-Length: 2 | {ok} ‖ open"
POSTED = "POST / HTTP/1.1 | Content-Length: 2 | {hi}"
EXPECTS = b"Expect: 100-continue"

REQUESTS = (
    passed("22", "tabs around a Content-Length", post(b"Content-Length:\t2 \t", body=b"hi"), POSTED, FINE),
    refused("S1", "a tab before the colon", post(b"Content-Length\t: 2", body=b"hi")),
    refused("S1", "chunked, then another coding in a field of its own",
            post(b"Transfer-Encoding: chunked", b"Transfer-encoding: cow"), "501 Not Implemented"),
    refused("S1", "gzip and chunked in two fields", post(b"Transfer-Encoding: gzip", b"Transfer-encoding: chunked"),
            "501 Not Implemented"),
    refused("S1", "a chunked body, its last line end left out, then a request",
            chunked(b"2\r\nhi\r\n0\r\n") + get(b"/2")),
    refused("S1", "a target that is a query alone", get(b"?a")),
    refused("S1", "a response in place of a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Case("S2", "nothing behind the words behind a body is served",
         post(b"Content-Length: 0") + b"garbage\r\n\r\n" + get(b"/smuggled"), "POST / HTTP/1.1",
         "200 OK | {ok} ‖ 400 Bad Request ‖ closed"),
    Case("40", "requests behind Connection: close are not served",
         get(b"/1", b"Connection: close") + get(b"/2") + get(b"/3"), "GET /1 HTTP/1.1", "200 OK | {ok} ‖ closed"),
    passed("40", "two Connection fields", get(b"/", b"Connection: X-A", b"Connection: close", b"X-A: 1"),
           "GET / HTTP/1.1", "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    Case("39", "pipelined requests of HTTP/1.0",
         b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
         "GET /1 HTTP/1.1 ‖ GET /2 HTTP/1.1", "200 OK | {ok} ‖ 200 OK | {ok} ‖ closed"),
    passed("13", "a POST of HTTP/1.0 without a length has no body", b"POST / HTTP/1.0\r\n\r\nhello",
           "POST / HTTP/1.1 | Content-Length: 0", "200 OK | Content-Length: 2 | Connection: close | {ok} ‖ closed"),
    passed("32", "a body that did not wait for its 100", post(EXPECTS, b"Content-Length: 2", body=b"hi"), POSTED, FINE),
    passed("32", "an expectation without a body", get(b"/", EXPECTS), "GET / HTTP/1.1", FINE),
    passed("42", "Upgrade without Connection", get(b"/", b"Upgrade: websocket"), "GET / HTTP/1.1", FINE),
    passed("42", "Connection: Upgrade without Upgrade", get(b"/", b"Connection: Upgrade"), "GET / HTTP/1.1", FINE),
    Case("16", "Max-Forwards: 0 of OPTIONS * ends here", get(b"*", b"Max-Forwards: 0", method=b"OPTIONS"), NOTHING,
         "200 OK ‖ open"),
    Case("18", "Connection cannot name away what traces and ids are for",
         get(b"/", b"Connection: Via, X-Request-Id, Content-Length, Expect, Trailer", b"Via: 1.0 a",
             b"X-Request-Id: r", method=b"POST"),
         "POST / HTTP/1.1 | Via: 1.0 a | X-Request-Id: r | Via: 1.1 pillion",
         "200 OK | Via: 1.1 pillion | X-Request-Id: r | {ok} ‖ open",
         show=(b"via", b"x-request-id")),
)  # fmt: skip

ANSWERS = (
    reply("204 with a length", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "204 No Content ‖ open",
          item="26"),
    reply("chunked 204", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          "204 No Content ‖ open", item="26"),
    reply("chunks to HEAD are announced by nothing", HEAD + b"Transfer-Encoding: chunked\r\n\r\n", "200 OK ‖ open",
          item="26", sent=get(method=b"HEAD"), backend="HEAD / HTTP/1.1"),
    Case("26", "backend: HEAD with a length, then another request", get(method=b"HEAD") + get(b"/2"),
         "HEAD / HTTP/1.1 ‖ GET /2 HTTP/1.1",
         "200 OK | Content-Length: 5 ‖ 200 OK | Content-Length: 3 | {two} ‖ open",
         (HEAD + b"Content-Length: 5\r\n\r\n", response(b"two")), show=FRAMING),
    Case("33", "backend: an interim answer with a length has no body, and a hop of its own", GET, "GET / HTTP/1.1",
         "103 Early Hints | Link: x ‖ 200 OK | {ok} ‖ open",
         (b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\nConnection: X-A\r\nX-A: b\r\nLink: x\r\n\r\n" + response(b"ok"),),
         show=(b"link", b"x-a", b"connection")),
    Case("33", "backend: 100 without being asked", GET, "GET / HTTP/1.1", "100 Continue ‖ 200 OK | {ok} ‖ open",
         (b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"ok"),)),
    reply("a long answer cut short ends with a reset",
          HEAD + b"Content-Length: 300000\r\nConnection: close\r\n\r\n" + b"x" * 200_000, "reset", item="31"),
    reply("a long chunk that does not end where its size says",
          HEAD + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b"x" * 0x20000 + b"XX0\r\n\r\n", "reset", item="31"),
    reply("a head of 2 MB", HEAD + b"A: " + b"a" * 2_000_000 + b"\r\nContent-Length: 0\r\n\r\n", item="S5"),
    reply("bare LFs", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", item="S1"),
    reply("a length beyond any", HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhi", item="S1"),
    reply("chunked in two fields", HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
          item="S1"),
    reply("white space before a coding's colon", HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", item="S1"),
    reply("a vertical tab before a coding", HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", item="S1"),
    Case("24", "backend: trailers that would change the answer are dropped", get(b"/", b"TE: trailers"),
         "GET / HTTP/1.1", "200 OK | {abc} | + X-Sum: 1 ‖ open",
         (HEAD + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n"
          b"Transfer-Encoding: x\r\nConnection: close\r\n\r\n",)),
    reply("a trailer whose name is none",
          HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX Sum: 1\r\n\r\n", item="S1"),
    Case("44", "backend: chunks of HTTP/1.0 end its connection", get(b"/1") + get(b"/2"),
         "GET /1 HTTP/1.1 ‖ GET /2 HTTP/1.1", "200 OK | {hi} ‖ 200 OK | {two} ‖ open",
         (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
          + response(b"evil"), response(b"two"))),
    Case("19", "backend: obs-text in a reason", GET, "GET / HTTP/1.1", "200 é | {hi} ‖ open",
         (b"HTTP/1.1 200 \xe9\r\nContent-Length: 2\r\n\r\nhi",)),
    Case("19", "backend: answers that differ in nothing but the reason", GET * 2, "GET / HTTP/1.1 ‖ GET / HTTP/1.1",
         "200 One | {hi} ‖ 200 Two | {hi} ‖ open",
         (b"HTTP/1.1 200 One\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 200 Two\r\nContent-Length: 2\r\n\r\nhi")),
    *(
        Case("30", f"an HTTP/1.0 client and {title}", b"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1",
             "200 OK | Content-Length: 2 | Connection: close | {hi} ‖ closed", (answer,), show=FRAMING)
        for title, answer in (
            ("a chunked answer", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            ("an answer of HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        )
    ),
)  # fmt: skip

LEADING_NOWHERE = (
    Case("S9", "the host of metadata services does not choose the server", get(b"http://169.254.169.254/latest"),
         "GET /latest HTTP/1.1 | Host: 169.254.169.254", OK, show=(b"host",)),
    Case("S9", "a target that looks like an authority does not either", get(b"//169.254.169.254/latest"),
         "GET //169.254.169.254/latest HTTP/1.1 | Host: h", OK, show=(b"host",)),
    refused("S9", "CONNECT to somewhere", get(b"169.254.169.254:80", method=b"CONNECT"), "405 Method Not Allowed"),
    Case("S9", "a redirect is the client's affair", GET, "GET / HTTP/1.1",
         "302 Found | Location: http://169.254.169.254/ ‖ open",
         (response(b"", b"Location: http://169.254.169.254/", status=b"302 Found"),), show=(b"location",)),
    Case("S12", "a stranger's word about a certificate is removed",
         get(b"/", b"X-Forwarded-Client-Cert: URI=spiffe://example.org/admin", b"X-Client-Cert: x",
             b"X_Forwarded_Client_Cert: x", b"X-SSL-Client-DN: x"),
         "GET / HTTP/1.1", OK,
         show=(b"x-forwarded-client-cert", b"x-client-cert", b"x_forwarded_client_cert", b"x-ssl-client-dn")),
    Case("S12", "a trusted proxy's goes on", get(b"/", b"X-Forwarded-Client-Cert: URI=spiffe://example.org/a"),
         "GET / HTTP/1.1 | X-Forwarded-Client-Cert: URI=spiffe://example.org/a", OK,
         show=(b"x-forwarded-client-cert",), settings={"trusted_proxies": ("127.0.0.1",)}),
    Case("S20", "the Origin of a WebSocket is the backend's to judge", UPGRADE.replace(b"Host", b"Origin: http://o\r\nHost"),
         "GET / HTTP/1.1 | Origin: http://o | Connection: Upgrade | Upgrade: websocket",
         "403 Forbidden | {no} ‖ open", (response(b"no", status=b"403 Forbidden"),),
         show=(b"origin", b"connection", b"upgrade")),
    Case("S20", "an upgrade that is only a part of a word", get(b"/", b"Connection: notupgrade", b"Upgrade: websocket"),
         "GET / HTTP/1.1", OK, show=(b"connection", b"upgrade")),
    Case("S20", "behind a declined upgrade HTTP/1.1 is spoken, and no frames",
         UPGRADE + b"\x81\x05hello" + get(b"/smuggled"), "GET / HTTP/1.1", "200 OK | {ok} ‖ 400 Bad Request ‖ closed"),
    Case("S20", "no HTTP/2 by way of h2c",
         get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAA")
         + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1",
         "200 OK | {ok} ‖ 505 HTTP Version Not Supported ‖ closed", show=(b"upgrade", b"http2-settings")),
)  # fmt: skip

CASES = REQUESTS + ANSWERS + LEADING_NOWHERE
