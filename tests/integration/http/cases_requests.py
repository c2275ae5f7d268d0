"""Request lines, hosts and forwarding fields."""

from __future__ import annotations

from tests.integration.http.conformance import NOTHING, Case
from tests.support.wire import response

__all__ = ("CASES",)

OK = "200 OK | {ok} ‖ open"
HOST = b"Host: h\r\n"


def get(target: bytes = b"/", *lines: bytes, method: bytes = b"GET", host: bytes = b"h") -> bytes:
    return b"".join(
        [
            b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, target, host),
            *(line + b"\r\n" for line in lines),
            b"\r\n",
        ]
    )


def forwarded(item: str, target: bytes, title: str = "goes on byte for byte") -> Case:
    text = target.decode("latin-1")
    return Case(item, f"target `{text}` {title}", get(target), f"GET {text} HTTP/1.1", OK)


def refused(
    item: str,
    title: str,
    sent: bytes,
    status: str = "400 Bad Request",
    *,
    settings: dict[str, object] | None = None,
) -> Case:
    behind = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    return Case(item, title, sent + behind, NOTHING, f"{status} ‖ closed", settings=settings or {})


TARGETS = (
    *(
        forwarded("1", target)
        for target in (
            b"/a%2Fb",
            b"/%2e%2e/x",
            b"/a/../b",
            b"/a//b",
            b"//h/x",
            b"/a;b=1",
            b"/%7E~",
            b"/[x]",
            b"/a+b%20c",
            b"/?q=%2F&r=a+b",
            b"/a?b?c",
            b"/%00",
            b"/caf\xc3\xa9",
            b"/@evil",
            b"/%ff",
        )
    ),
    Case(
        "2",
        "absolute form: its authority is the host",
        get(b"http://other:81/p?q", host=b"h"),
        "GET /p?q HTTP/1.1 | Host: other:81",
        OK,
        show=(b"host",),
    ),
    Case(
        "2",
        "absolute form without a path",
        get(b"http://other"),
        "GET / HTTP/1.1 | Host: other",
        OK,
        show=(b"host",),
    ),
    Case(
        "2",
        "absolute form with a query only",
        get(b"HTTP://other?x=1"),
        "GET /?x=1 HTTP/1.1 | Host: other",
        OK,
        show=(b"host",),
    ),
    refused("2", "absolute form with user information", get(b"http://u@evil/p")),
    refused("2", "absolute form of another scheme", get(b"gopher://h/p")),
    refused("2", "a target that does not begin with a slash", get(b"@evil/p")),
    refused("3", "CONNECT", get(b"h:443", method=b"CONNECT"), "405 Method Not Allowed"),
    refused("3", "authority form with GET", get(b"h:443")),
    Case("4", "OPTIONS *", get(b"*", method=b"OPTIONS"), "OPTIONS * HTTP/1.1", OK),
    refused("4", "* with another method", get(b"*")),
    refused("5", "TRACE", get(method=b"TRACE"), "405 Method Not Allowed"),
    refused("6", "a fragment in the target", get(b"/a#b")),
    refused("7", "HTTP/0.9 simple request", b"GET /\r\n"),
    refused(
        "7", "an HTTP/0.9 version", b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", "505 HTTP Version Not Supported"
    ),
    refused(
        "7", "an HTTP/2.0 version", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 HTTP Version Not Supported"
    ),
    refused("7", "a version that is none", b"GET / HTTP/1.11\r\nHost: h\r\n\r\n"),
    refused("7", "a version in lower case", b"GET / http/1.1\r\nHost: h\r\n\r\n"),
    Case("7", "HTTP/1.2 is read as HTTP/1.1", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", "GET / HTTP/1.1", OK),
    *(
        Case("8", f"method {method} passes", get(b"/", method=method.encode()), f"{method} / HTTP/1.1", OK)
        for method in ("PROPFIND", "QUERY", "BREW", "get", "M-SEARCH", "X!#$%&'*+.^_`|~")
    ),
    refused("8", "a method that is no token", get(method=b"G(T")),
    Case("9", "one empty line before the request line", b"\r\n" + get(), "GET / HTTP/1.1", OK),
    refused("9", "two empty lines before the request line", b"\r\n\r\n" + get()),
    refused("9", "the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
    refused("10", "a target over the limit", get(b"/" + b"a" * 9000), "414 URI Too Long"),
    refused("10", "a target over the limit, without an end", b"GET /" + b"a" * 9000, "414 URI Too Long"),
    refused(
        "10",
        "a field over the limit",
        get(b"/", b"A: " + b"a" * 70_000),
        "431 Request Header Fields Too Large",
    ),
    refused(
        "10", "more fields than the limit", get(b"/", *[b"A: a"] * 100), "431 Request Header Fields Too Large"
    ),
)

HOSTS = (
    refused("11", "HTTP/1.1 without Host", b"GET / HTTP/1.1\r\n\r\n"),
    refused("11", "two Hosts", get(b"/", b"Host: h")),
    *(
        refused("11", f"Host: {host.decode()}", get(host=host))
        for host in (b"a b", b"u@h", b"h/x", b"h:80:80", b"h:x", b"[::1", b'h,h"', b"h?x", b"h#x", b"h\\x")
    ),
    *(
        Case(
            "11",
            f"Host: {host.decode()} goes on",
            get(host=host),
            f"GET / HTTP/1.1 | Host: {host.decode()}",
            OK,
            show=(b"host",),
        )
        for host in (b"h:8080", b"[::1]:80", b"a.b-c_d", b"", b"2130706433")
    ),
    Case(
        "13",
        "HTTP/1.0 without Host works",
        b"GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1",
        "200 OK | {ok} ‖ closed",
    ),
)

XFF = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded")
SAID = (
    b"X-Forwarded-For: 1.1.1.1",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: e",
    b"Forwarded: for=1.1.1.1",
)
TRUST: dict[str, object] = {"trusted_proxies": ("127.0.0.0/8",)}
FRESH = (
    "X-Forwarded-For: 127.0.0.1 | X-Forwarded-Proto: http | X-Forwarded-Host: h | X-Forwarded-Port: <port> | "
    'Forwarded: for=127.0.0.1;host="h";proto=http'
)
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"

FORWARDING = (
    Case("14", "forwarding fields are written", get(), f"GET / HTTP/1.1 | {FRESH}", OK, show=XFF),
    Case(
        "14",
        "a stranger's forwarding fields are replaced",
        get(b"/", *SAID),
        f"GET / HTTP/1.1 | {FRESH}",
        OK,
        show=XFF,
    ),
    Case(
        "14",
        "a trusted proxy's are continued",
        get(b"/", *SAID),
        "GET / HTTP/1.1 | X-Forwarded-For: 1.1.1.1, 127.0.0.1 | X-Forwarded-Proto: https | X-Forwarded-Host: e | "
        'X-Forwarded-Port: <port> | Forwarded: for=1.1.1.1, for=127.0.0.1;host="h";proto=http',
        OK,
        show=XFF,
        settings=TRUST,
    ),
    Case(
        "15",
        "Via is added both ways",
        get(b"/", b"Via: 1.0 first"),
        "GET / HTTP/1.1 | Via: 1.0 first | Via: 1.1 pillion",
        "200 OK | Via: 1.1 backend | Via: 1.1 pillion | {ok} ‖ open",
        (response(b"ok", b"Via: 1.1 backend"),),
        show=(b"via",),
    ),
    refused(
        "15",
        "a request that comes round again",
        get(b"/", b"Via: 1.1 a, 1.1 pillion (x)"),
        "508 Loop Detected",
    ),
    Case("15", "another proxy of a similar name", get(b"/", b"Via: 1.1 pillion-2"), "GET / HTTP/1.1", OK),
    Case(
        "16",
        "Max-Forwards of OPTIONS counts down",
        get(b"/", b"Max-Forwards: 5", method=b"OPTIONS"),
        "OPTIONS / HTTP/1.1 | Max-Forwards: 4",
        OK,
        show=(b"max-forwards",),
    ),
    Case(
        "16",
        "Max-Forwards: 0 ends here",
        get(b"/", b"Max-Forwards: 0", method=b"OPTIONS"),
        NOTHING,
        "200 OK | Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS ‖ open",
        show=(b"allow",),
    ),
    Case(
        "16",
        "Max-Forwards of another method is left alone",
        get(b"/", b"Max-Forwards: 0"),
        "GET / HTTP/1.1 | Max-Forwards: 0",
        OK,
        show=(b"max-forwards",),
    ),
    Case(
        "17",
        "hop-by-hop fields of a request end here",
        get(
            b"/",
            b"Connection: keep-alive",
            b"Keep-Alive: timeout=5",
            b"HTTP2-Settings: AAMAAABkAAQAAP__",
            b"Proxy-Connection: close",
            b"TE: trailers, gzip",
            b"Proxy-Authorization: x",
            b"Proxy-Authenticate: x",
            b"Upgrade: h2c",
            b"A: b",
        ),
        "GET / HTTP/1.1 | A: b | TE: trailers",
        OK,
        show=(
            b"connection",
            b"keep-alive",
            b"http2-settings",
            b"proxy-connection",
            b"te",
            b"proxy-authorization",
            b"proxy-authenticate",
            b"upgrade",
            b"a",
        ),
    ),
    Case(
        "17",
        "hop-by-hop fields of an answer end here",
        get(),
        "GET / HTTP/1.1",
        "200 OK | A: b | {ok} ‖ open",
        (
            response(
                b"ok",
                b"Keep-Alive: timeout=9",
                b"Proxy-Connection: x",
                b"Connection: keep-alive, X-Mine",
                b"X-Mine: 1",
                b"A: b",
            ),
        ),
        show=(b"connection", b"keep-alive", b"proxy-connection", b"x-mine", b"a"),
    ),
    Case(
        "18",
        "fields that Connection names end here",
        get(b"/", b"Connection: X-Mine", b"X-Mine: 1", b"A: b"),
        "GET / HTTP/1.1 | A: b",
        OK,
        show=(b"x-mine", b"a"),
    ),
    Case(
        "18",
        "Connection cannot name away what security rests on",
        get(
            b"/",
            b"Connection: Host, Authorization, Cookie, X-Forwarded-For, Content-Type",
            b"Authorization: a",
            b"Cookie: c",
            b"Content-Type: t",
        ),
        "GET / HTTP/1.1 | Host: h | Authorization: a | Cookie: c | Content-Type: t | X-Forwarded-For: 127.0.0.1",
        OK,
        show=(b"host", b"authorization", b"cookie", b"x-forwarded-for", b"content-type"),
    ),
    Case(
        "18",
        "Connection: Content-Length",
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nhi",
        "POST / HTTP/1.1 | Content-Length: 2 | {hi}",
        "200 OK | Content-Length: 2 | {ok} ‖ open",
        show=(b"content-length",),
    ),
    Case(
        "19",
        "order, case, duplicates, empty values and obs-text of a request",
        get(b"/", b"B: 1", b"a: 2", b"b: 3", b"C:", b"D: \xe9\xff", b"E:  x  y\t"),
        "GET / HTTP/1.1 | B: 1 | a: 2 | b: 3 | C:  | D: éÿ | E: x  y",
        OK,
        show=(b"a", b"b", b"c", b"d", b"e"),
    ),
    Case(
        "19",
        "order, case, duplicates, empty values and obs-text of an answer",
        get(),
        "GET / HTTP/1.1",
        "200 OK | Set-Cookie: a=1 | x-B: é | set-cookie: b=2 | X-C:  | {ok} ‖ open",
        (response(b"ok", b"Set-Cookie: a=1", b"x-B: \xe9", b"set-cookie: b=2", b"X-C:"),),
        show=(b"set-cookie", b"x-b", b"x-c"),
    ),
    Case(
        "20",
        "Date is added where it lacks",
        get(),
        "GET / HTTP/1.1",
        "200 OK | Date: <now> | {ok} ‖ open",
        show=(b"date",),
    ),
    Case(
        "20",
        "Date and Server of the backend stay",
        get(),
        "GET / HTTP/1.1",
        "200 OK | Date: then | Server: s | {ok} ‖ open",
        (response(b"ok", b"Date: then", b"Server: s"),),
        show=(b"date", b"server"),
    ),
    Case(
        "20",
        "a request's id is given and told",
        get(),
        "GET / HTTP/1.1 | X-Request-Id: <id>",
        "200 OK | X-Request-Id: <id> | {ok} ‖ open",
        show=(b"x-request-id",),
    ),
    Case(
        "20",
        "a client's request id is kept and told",
        get(b"/", b"x-request-id: My.id-1"),
        "GET / HTTP/1.1 | x-request-id: My.id-1",
        "200 OK | X-Request-Id: My.id-1 | {ok} ‖ open",
        show=(b"x-request-id",),
    ),
    Case(
        "20",
        "a request id that is unsafe in a log is replaced",
        get(b"/", b"X-Request-Id: a (b)"),
        "GET / HTTP/1.1 | X-Request-Id: <id>",
        "200 OK | X-Request-Id: <id> | {ok} ‖ open",
        show=(b"x-request-id",),
    ),
    Case(
        "21",
        "a trace is begun",
        get(),
        "GET / HTTP/1.1 | traceparent: 00-<id>-<span>-00",
        OK,
        show=(b"traceparent",),
    ),
    Case(
        "21",
        "a trace is continued with a span of our own",
        get(b"/", b"traceparent: 00-%b-00f067aa0ba902b7-01" % TRACE, b"tracestate: v=1", b"baggage: k=v"),
        "GET / HTTP/1.1 | tracestate: v=1 | baggage: k=v | traceparent: 00-<id>-<span>-01",
        OK,
        show=(b"traceparent", b"tracestate", b"baggage"),
    ),
    *(
        Case(
            "21",
            f"traceparent {text.decode()} is replaced",
            get(b"/", b"traceparent: " + text, b"tracestate: v=1"),
            "GET / HTTP/1.1 | traceparent: 00-<id>-<span>-00",
            OK,
            show=(b"traceparent", b"tracestate"),
        )
        for text in (
            b"garbage",
            b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
            b"ff-%b-00f067aa0ba902b7-01" % TRACE,
        )
    ),
)

CASES = TARGETS + HOSTS + FORWARDING
