"""Message bodies: framing, trailers, statuses without a body, versions, connections."""

from __future__ import annotations

from tests.integration.http.cases_requests import OK, get, refused
from tests.integration.http.conformance import NOTHING, Case
from tests.support.wire import response

__all__ = ("CASES",)

FRAMING = (b"content-length", b"transfer-encoding", b"connection", b"trailer")
EMPTY = "200 OK | Content-Length: 2 | {ok} ‖ open"


def post(body: bytes, *lines: bytes, method: bytes = b"POST") -> bytes:
    return get(b"/", b"Content-Length: %d" % len(body), *lines, method=method) + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    return get(b"/", b"Transfer-Encoding: chunked", *lines, method=b"POST") + body


def answered(
    item: str, title: str, answer: bytes, client: str, *, sent: bytes = b"", show: tuple[bytes, ...] = FRAMING
) -> Case:
    """A case about the answer to a GET."""
    line = (sent or get()).partition(b"\r\n")[0].decode().replace("HTTP/1.0", "HTTP/1.1")
    return Case(item, title, sent or get(), line, client, (answer,), show=show)


HEAD = b"HTTP/1.1 200 OK\r\n"

REQUEST_BODIES = (
    Case(
        "22",
        "a counted body keeps its length",
        post(b"hello"),
        "POST / HTTP/1.1 | Content-Length: 5 | {hello}",
        EMPTY,
        show=FRAMING,
    ),
    Case(
        "22",
        "surplus bytes are the next request",
        post(b"one") + get(b"/two"),
        "POST / HTTP/1.1 | {one} ‖ GET /two HTTP/1.1",
        "200 OK | {ok} ‖ 200 OK | {ok} ‖ open",
    ),
    Case(
        "22",
        "a body shorter than its length",
        get(b"/", b"Content-Length: 9", method=b"POST") + b"short",
        NOTHING,
        "400 Bad Request ‖ closed",
        half_close=True,
    ),
    Case(
        "23",
        "chunks are framed anew and extensions dropped",
        chunked(b"3;a=b\r\nabc\r\n2;c\r\nde\r\n0;x\r\n\r\n"),
        "POST / HTTP/1.1 | Content-Length: 5 | {abcde}",
        EMPTY,
        show=FRAMING,
    ),
    Case(
        "23",
        "an empty chunked body",
        chunked(b"0\r\n\r\n"),
        "POST / HTTP/1.1 | Content-Length: 0",
        EMPTY,
        show=FRAMING,
    ),
    Case(
        "24",
        "trailers of a request",
        chunked(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", b"Trailer: X-Sum", b"TE: trailers"),
        "POST / HTTP/1.1 | Trailer: X-Sum | Transfer-Encoding: chunked | {abc} | + X-Sum: 1",
        EMPTY,
        show=FRAMING,
    ),
    Case(
        "24",
        "trailers that would change the message are dropped",
        chunked(
            b"3\r\nabc\r\n0\r\nContent-Length: 1\r\nTransfer_Encoding: x\r\nHost: evil\r\nX-Sum: 1\r\nAuthorization: a\r\n\r\n"
        ),
        "POST / HTTP/1.1 | Transfer-Encoding: chunked | {abc} | + X-Sum: 1",
        EMPTY,
        show=FRAMING,
    ),
    *(
        Case(
            "25",
            f"{method} without a body",
            get(b"/", method=method.encode()),
            f"{method} / HTTP/1.1{length}",
            EMPTY,
            show=FRAMING,
        )
        for method, length in (
            ("POST", " | Content-Length: 0"),
            ("PUT", " | Content-Length: 0"),
            ("GET", ""),
            ("DELETE", ""),
        )
    ),
    *(
        Case(
            "25",
            f"{method} with a body",
            post(b"hi", method=method.encode()),
            f"{method} / HTTP/1.1 | Content-Length: 2 | {{hi}}",
            EMPTY,
            show=FRAMING,
        )
        for method in ("GET", "DELETE", "PUT", "BREW")
    ),
    Case(
        "25",
        "POST with Content-Length: 0",
        post(b""),
        "POST / HTTP/1.1 | Content-Length: 0",
        EMPTY,
        show=FRAMING,
    ),
)

ANSWERS = (
    answered(
        "26",
        "HEAD keeps the length and has no body",
        HEAD + b"Content-Length: 5\r\n\r\n",
        "200 OK | Content-Length: 5 ‖ open",
        sent=get(method=b"HEAD"),
    ),
    answered(
        "26", "204 has no body and no framing", b"HTTP/1.1 204 No Content\r\n\r\n", "204 No Content ‖ open"
    ),
    answered(
        "26",
        "304 keeps its length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
        "304 Not Modified | ETag: x | Content-Length: 5 ‖ open",
        show=(*FRAMING, b"etag"),
    ),
    answered(
        "27",
        "205",
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        "205 Reset Content | Content-Length: 0 ‖ open",
    ),
    answered(
        "27",
        "206 with multipart ranges",
        response(b"--b--", b"Content-Type: multipart/byteranges; boundary=b", status=b"206 Partial Content"),
        "206 Partial Content | Content-Type: multipart/byteranges; boundary=b | Content-Length: 5 | {--b--} ‖ open",
        show=(*FRAMING, b"content-type"),
        sent=get(b"/", b"Range: bytes=0-1,3-4"),
    ),
    answered(
        "27",
        "416",
        response(b"", b"Content-Range: bytes */9", status=b"416 Range Not Satisfiable"),
        "416 Range Not Satisfiable | Content-Range: bytes */9 | Content-Length: 0 ‖ open",
        show=(*FRAMING, b"content-range"),
    ),
    *(
        answered(
            "28",
            f"{status} is not followed",
            response(b"", b"Location: http://elsewhere/x", status=b"%d Moved" % status),
            f"{status} Moved | Location: http://elsewhere/x ‖ open",
            show=(b"location",),
        )
        for status in (301, 302, 307, 308)
    ),
    answered("29", "a counted answer", response(b"abc"), "200 OK | Content-Length: 3 | {abc} ‖ open"),
    answered(
        "29",
        "a chunked answer",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "200 OK | Content-Length: 3 | {abc} ‖ open",
    ),
    answered(
        "29",
        "an answer that ends with its connection",
        HEAD + b"Connection: close\r\n\r\nabc",
        "200 OK | Transfer-Encoding: chunked | {abc} ‖ open",
    ),
    answered(
        "29",
        "an answer of an HTTP/1.0 backend",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        "200 OK | Transfer-Encoding: chunked | {abc} ‖ open",
    ),
    answered(
        "24",
        "trailers of an answer, to a client that takes them",
        HEAD + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        "200 OK | Trailer: X-Sum | Transfer-Encoding: chunked | {abc} | + X-Sum: 1 ‖ open",
        sent=get(b"/", b"TE: trailers"),
    ),
    answered(
        "24",
        "trailers that nobody announced or asked for are dropped",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
        "200 OK | Transfer-Encoding: chunked | {abc} ‖ open",
    ),
    answered(
        "30",
        "an HTTP/1.0 client gets no chunks",
        HEAD + b"Connection: close\r\n\r\nabc",
        "200 OK | Connection: close | {abc} ‖ closed",
        sent=b"GET / HTTP/1.0\r\nHost: h\r\n\r\n",
    ),
    answered(
        "30",
        "an HTTP/1.0 client that asks to stay",
        response(b"abc"),
        "200 OK | Content-Length: 3 | Connection: keep-alive | {abc} ‖ open",
        sent=b"GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n",
    ),
    answered(
        "30",
        "an HTTP/1.0 client that asks to stay, and an answer without a length",
        HEAD + b"Connection: close\r\n\r\nabc",
        "200 OK | Connection: close | {abc} ‖ closed",
        sent=b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    ),
    answered(
        "31",
        "a small answer cut short was not passed on yet",
        HEAD + b"Content-Length: 9\r\nConnection: close\r\n\r\nabc",
        "502 Bad Gateway ‖ open",
        show=(),
    ),
    answered(
        "31",
        "a chunked answer cut short ends with a reset",
        HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\nabc",
        "reset",
    ),
    Case(
        "32",
        "an expectation that is none",
        post(b"hi", b"Expect: magic"),
        NOTHING,
        "417 Expectation Failed ‖ closed",
    ),
    answered(
        "36",
        "Content-Encoding is not touched",
        response(b"\x1f\x8b", b"Content-Encoding: gzip", b"Vary: Accept-Encoding"),
        "200 OK | Content-Encoding: gzip | Vary: Accept-Encoding | Content-Length: 2 | {\x1f\x8b} ‖ open",
        show=(*FRAMING, b"content-encoding", b"vary"),
    ),
    Case(
        "36",
        "Accept-Encoding is not touched",
        get(b"/", b"Accept-Encoding: br;q=0.1, identity"),
        "GET / HTTP/1.1 | Accept-Encoding: br;q=0.1, identity",
        OK,
        show=(b"accept-encoding",),
    ),
    Case(
        "36",
        "no Accept-Encoding is added",
        get(),
        "GET / HTTP/1.1",
        OK,
        show=(b"accept-encoding", b"user-agent", b"accept"),
    ),
    refused(
        "36",
        "Transfer-Encoding: gzip, chunked",
        chunked(b"0\r\n\r\n").replace(b"chunked", b"gzip, chunked", 1),
        "501 Not Implemented",
    ),
)

CONNECTIONS = (
    Case(
        "38",
        "a client that half-closes gets its answer",
        get(),
        "GET / HTTP/1.1",
        "200 OK | {ok} ‖ closed",
        half_close=True,
    ),
    Case(
        "38",
        "a client that half-closes gets all its answers",
        get(b"/1") + post(b"x") + get(b"/3"),
        "GET /1 HTTP/1.1 ‖ POST / HTTP/1.1 | {x} ‖ GET /3 HTTP/1.1",
        "200 OK | {ok} ‖ 200 OK | {ok} ‖ 200 OK | {ok} ‖ closed",
        half_close=True,
    ),
    Case(
        "39",
        "pipelined requests are answered in order",
        b"".join(get(b"/%d" % n) for n in range(5)),
        " ‖ ".join(f"GET /{n} HTTP/1.1" for n in range(5)),
        " ‖ ".join([*(f"200 OK | {{{n}}}" for n in range(5)), "open"]),
        tuple(response(b"%d" % n) for n in range(5)),
    ),
    Case(
        "40",
        "Connection: close of the client",
        get(b"/", b"Connection: close"),
        "GET / HTTP/1.1",
        "200 OK | Connection: close | {ok} ‖ closed",
        show=(b"connection",),
    ),
    Case(
        "40",
        "Connection: close of the backend is its own affair",
        get(),
        "GET / HTTP/1.1",
        OK,
        (response(b"ok", b"Connection: close"),),
        show=(b"connection",),
    ),
    Case(
        "42",
        "an upgrade that is only a part of a word",
        get(b"/", b"Connection: notupgrade", b"Upgrade: websocket"),
        "GET / HTTP/1.1",
        OK,
        show=(b"connection", b"upgrade"),
    ),
    Case(
        "42",
        "an upgrade to h2c is an ordinary request",
        get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"),
        "GET / HTTP/1.1",
        OK,
        show=(b"connection", b"upgrade", b"http2-settings"),
    ),
    Case(
        "42",
        "an upgrade that the backend declines",
        get(b"/", b"Connection: Upgrade", b"Upgrade: websocket") + get(b"/next"),
        "GET / HTTP/1.1 | Connection: Upgrade | Upgrade: websocket ‖ GET /next HTTP/1.1",
        "200 OK | {ok} ‖ 200 OK | {ok} ‖ open",
        show=(b"connection", b"upgrade"),
    ),
    *(
        Case(
            "47",
            f"the backend's own {status} is not touched",
            get(),
            "GET / HTTP/1.1",
            f"{status} Odd | {{words}} ‖ open",
            (response(b"words", status=b"%d Odd" % status),),
            show=(b"proxy-status",),
        )
        for status in (400, 404, 429, 500, 502, 503, 599)
    ),
    Case(
        "47",
        "our own errors say who failed",
        get(host=b"a b"),
        NOTHING,
        '400 Bad Request | Proxy-Status: pillion; error=http_request_error; details="bad_request" ‖ closed',
        show=(b"proxy-status",),
    ),
    Case(
        "48",
        "an answer that is not HTTP",
        get(),
        "GET / HTTP/1.1",
        '502 Bad Gateway | Proxy-Status: pillion; error=http_protocol_error; details="bad_reply" ‖ open',
        (b"garbage\r\n\r\n",),
        show=(b"proxy-status",),
    ),
    Case(
        "48",
        "a body over our own limit",
        post(b"x" * 2000),
        NOTHING,
        "413 Content Too Large ‖ closed",
        settings={"limits": {"body": "1KiB"}},
    ),
    Case(
        "48",
        "a chunked body over our own limit",
        chunked(b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"),
        NOTHING,
        "413 Content Too Large ‖ closed",
        settings={"limits": {"body": "1KiB"}},
    ),
)

CASES = REQUEST_BODIES + ANSWERS + CONNECTIONS
