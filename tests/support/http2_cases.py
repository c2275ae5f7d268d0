"""RFC 9113 and RFC 7541 as a table: what a client sends, and what a server must then do.

Each case starts after the handshake (preface and empty SETTINGS, both acknowledged) unless `raw` is set, in which
case `sends` is the very first thing on the connection. The server answers each whole request with status 200.
`then` follows once the head of an answer has come back. The body of an answer is empty, or `BODY` where `/body` was
asked for. `expects` is judged by the frames that come back alone, so that the same table runs against the bare
session and against a listening port. A case that expects nothing in particular ends with a PING that must be
answered. `h2spec` names the cases of that suite which ask the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack

from hpack import Encoder, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from proxy.http2 import frames as f

__all__ = ("BODY", "CASES", "REQUEST", "Case", "Expect", "block")

Fields = tuple[tuple[bytes, bytes], ...]
REQUEST: Fields = (
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"localhost"),
)
POST: Fields = ((b":method", b"POST"), *REQUEST[1:])
BODY = b"0123456789"


def block(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block that leaves the dynamic table alone."""
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields], huffman=False)


def headers(
    stream_id: int, *fields: tuple[bytes, bytes], end: bool = True, flags: int = f.END_HEADERS
) -> bytes:
    return f.frame(f.HEADERS, flags | end, stream_id, block(*fields))


def get(stream_id: int = 1) -> bytes:
    return headers(stream_id, *REQUEST)


def post(stream_id: int = 1, *extra: tuple[bytes, bytes]) -> bytes:
    return headers(stream_id, *POST, *extra, end=False)


def data(stream_id: int, payload: bytes = b"x", flags: int = 0) -> bytes:
    return f.frame(f.DATA, flags, stream_id, payload)


def settings(name: int, value: int) -> bytes:
    return f.settings_frame(((name, value),))


def window(size: int) -> bytes:
    """SETTINGS_INITIAL_WINDOW_SIZE."""
    return settings(f.SETTING_INITIAL_WINDOW_SIZE, size)


def get_body(stream_id: int = 1) -> bytes:
    return headers(stream_id, *REQUEST[:2], (b":path", b"/body"), REQUEST[3])


def priority(stream_id: int, on: int = 0, *, weight: int = 16, exclusive: bool = False) -> bytes:
    return f.frame(f.PRIORITY, 0, stream_id, pack(">IB", on | exclusive << 31, weight - 1))


def literal(pattern: int, name: int | bytes, value: bytes, *, huffman: bool) -> bytes:
    """A literal field as RFC 7541 §6.2 spells it: `name` is an index below 15 of the static table, or new."""
    encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode if huffman else bytes
    texts = [value] if isinstance(name, int) else [name, value]
    strings = [bytes((huffman << 7 | len(text),)) + text for text in map(encode, texts)]
    return bytes((pattern | (name if isinstance(name, int) else 0),)) + b"".join(strings)


@dataclass(frozen=True)
class Expect:
    """What must come back; `codes` are the acceptable error codes' names."""

    what: str  # goaway | reset | goaway or reset | answer | data | ping | settings ack | nothing
    codes: tuple[str, ...] = ()
    stream_id: int = 1
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        match self.what:
            case "nothing":
                return "the connection goes on"
            case "answer":
                return f"stream {self.stream_id} is answered"
            case "data":
                return f"DATA of {', then '.join(map(str, self.sizes))} bytes and no more"
            case "ping":
                return "PING is acknowledged"
            case "settings ack":
                return "SETTINGS is acknowledged"
            case _:
                return f"{self.what.upper().replace(' OR ', ' or ')} {' or '.join(self.codes)}"


@dataclass(frozen=True)
class Case:
    """One rule: `section` of the RFC, what is sent in words and in bytes, and what must come back."""

    section: str
    text: str
    sends: bytes
    expects: Expect
    raw: bool = False
    then: bytes = b""
    h2spec: str = ""


def dies(*codes: str) -> Expect:
    return Expect("goaway", codes)


def resets(*codes: str, stream_id: int = 1) -> Expect:
    return Expect("reset", codes, stream_id)


def either(*codes: str) -> Expect:
    return Expect("goaway or reset", codes)


def sends_data(*sizes: int) -> Expect:
    return Expect("data", sizes=sizes)


GOES_ON = Expect("nothing")
ANSWERED = Expect("answer")
PROTOCOL = "PROTOCOL_ERROR"
SIZE = "FRAME_SIZE_ERROR"
FLOW = "FLOW_CONTROL_ERROR"
CLOSED = "STREAM_CLOSED"
COMPRESSION = "COMPRESSION_ERROR"

_BIG = f.DEFAULT_FRAME_SIZE + 1
_PREFACE = f.PREFACE + f.settings_frame(())


def _malformed(text: str, *fields: tuple[bytes, bytes], h2spec: str = "") -> Case:
    return Case("8.1.1", text, headers(1, *fields), resets(PROTOCOL), h2spec=h2spec)


def _setting(text: str, name: int, value: int, code: str, *, h2spec: str) -> Case:
    return Case("6.5.2", text, settings(name, value), dies(code), h2spec=h2spec)


def _field(section: str, text: str, pattern: int, first: int) -> tuple[Case, ...]:
    """The four spellings of a literal field; `first` is the number of the first in h2spec's list."""
    names = ((4, "an indexed name"), (b"x-test", "a new name"))
    spellings = [(name, words, huffman) for name, words in names for huffman in (False, True)]
    return tuple(
        Case(
            section,
            f"{text}, {words}{', by Huffman' if huffman else ''}",
            f.frame(
                f.HEADERS,
                5,
                1,
                block(REQUEST[0], REQUEST[1], REQUEST[3])
                + (literal(pattern, 4, b"/test", huffman=huffman) if name == 4 else block(REQUEST[2]))
                + (b"" if name == 4 else literal(pattern, name, b"a value", huffman=huffman)),
            ),
            ANSWERED,
            h2spec=f"generic/5/{first + number}",
        )
        for number, (name, words, huffman) in enumerate(spellings)
    )


CASES: tuple[Case, ...] = (
    # ------------------------------------------------------------ connection preface
    Case("3.4", "a preface that is not the preface", b"INVALID PREFACE\r\n\r\n", dies(PROTOCOL), raw=True, h2spec="http2/3.5/2"),
    Case("3.4", "an HTTP/1.1 request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", dies(PROTOCOL), raw=True),
    Case("3.4", "the preface, then PING instead of SETTINGS", f.PREFACE + f.ping_frame(b"12345678", ack=False), dies(PROTOCOL), raw=True),
    Case("3.4", "the preface, then an acknowledgement of SETTINGS", f.PREFACE + f.settings_ack(), dies(PROTOCOL), raw=True),
    Case("3.4", "preface, SETTINGS and a request in one piece", _PREFACE + get(), ANSWERED, raw=True, h2spec="generic/1/1 http2/3.5/1"),
    # ------------------------------------------------------------ frames
    Case("4.1", "a frame of unknown type", f.frame(0x42, 0xFF, 0, b"whatever"), GOES_ON, h2spec="http2/4.1/1 http2/5.5/1"),
    Case("4.1", "a frame of unknown type on a stream that is not open", f.frame(0x42, 0, 99, b"x"), GOES_ON),
    Case("4.1", "undefined flags on PING", f.frame(f.PING, 0xFE, 0, b"12345678"), Expect("ping"), h2spec="http2/4.1/2"),
    Case("4.1", "the reserved bit of the stream identifier is set", f.frame(f.PING, 0, 1 << 31, b"12345678"), Expect("ping"), h2spec="http2/4.1/3"),
    Case("4.2", "DATA of the largest size", post() + data(1, bytes(f.DEFAULT_FRAME_SIZE), f.END_STREAM), ANSWERED, h2spec="http2/4.2/1"),
    Case("4.2", "DATA above the largest size", post() + data(1, bytes(_BIG)), either(SIZE), h2spec="http2/4.2/2"),
    Case("4.2", "HEADERS above the largest size", f.frame(f.HEADERS, f.END_HEADERS, 1, bytes(_BIG)), dies(SIZE), h2spec="http2/4.2/3"),
    Case("4.3", "a header block that is no HPACK", f.frame(f.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff\xff"), dies(COMPRESSION), h2spec="http2/4.3/1"),
    Case("4.3", "PRIORITY inside a header block", headers(1, *REQUEST, flags=0) + f.frame(f.PRIORITY, 0, 1, bytes(5)), dies(PROTOCOL), h2spec="http2/4.3/2 http2/6.2/1"),
    Case("4.3", "HEADERS of another stream inside a header block", headers(1, *REQUEST, flags=0) + get(3), dies(PROTOCOL), h2spec="http2/4.3/3 http2/6.2/2"),
    Case("4.3", "an unknown frame inside a header block", headers(1, *REQUEST, flags=0) + f.frame(0x42, 0, 1), dies(PROTOCOL), h2spec="http2/5.5/2"),
    # ------------------------------------------------------------ stream states
    Case("5.1", "idle: DATA", data(1), dies(PROTOCOL), h2spec="http2/5.1/1"),
    Case("5.1", "idle: RST_STREAM", f.reset_frame(1, 8), dies(PROTOCOL), h2spec="http2/5.1/2 http2/6.4/2"),
    Case("5.1", "idle: WINDOW_UPDATE", f.window_update_frame(1, 100), dies(PROTOCOL), h2spec="http2/5.1/3"),
    Case("5.1", "idle: CONTINUATION", f.frame(f.CONTINUATION, f.END_HEADERS, 1, block(*REQUEST)), dies(PROTOCOL), h2spec="http2/5.1/4"),
    Case("5.1", "idle: PRIORITY", f.frame(f.PRIORITY, 0, 1, bytes(5)), GOES_ON, h2spec="generic/2/1"),
    Case("5.1", "half-closed: PRIORITY", get() + priority(1), ANSWERED, h2spec="generic/2/3"),
    Case("5.1", "half-closed: RST_STREAM", get() + f.reset_frame(1, 8), GOES_ON, h2spec="generic/2/4"),
    Case("5.1", "half-closed: DATA after END_STREAM", post() + data(1, b"", f.END_STREAM) + data(1), either(CLOSED), h2spec="http2/5.1/5 http2/6.1/2"),
    Case("5.1", "half-closed: HEADERS after END_STREAM", get() + get(), either(CLOSED), h2spec="http2/5.1/6"),
    Case("5.1", "half-closed: CONTINUATION after END_HEADERS", get() + f.frame(f.CONTINUATION, 4, 1, block(*REQUEST)), dies(PROTOCOL, CLOSED), h2spec="http2/5.1/7 http2/6.10/4"),
    Case("5.1", "half-closed: WINDOW_UPDATE", get() + f.window_update_frame(1, 100), ANSWERED, h2spec="generic/2/2 generic/3.9/2"),
    Case("5.1", "closed by RST_STREAM: DATA", post() + f.reset_frame(1, 8) + data(1), either(CLOSED), h2spec="http2/5.1/8"),
    Case("5.1", "closed by RST_STREAM: HEADERS", post() + f.reset_frame(1, 8) + get(), either(CLOSED), h2spec="http2/5.1/9"),
    Case("5.1", "closed by RST_STREAM: CONTINUATION", post() + f.reset_frame(1, 8) + f.frame(f.CONTINUATION, 4, 1), dies(PROTOCOL, CLOSED), h2spec="http2/5.1/10"),
    Case("5.1", "closed by RST_STREAM: PRIORITY", post() + f.reset_frame(1, 8) + priority(1), GOES_ON, h2spec="generic/2/5"),
    Case("5.1", "closed by its end: DATA", get(), either(CLOSED), then=data(1), h2spec="http2/5.1/11"),
    Case("5.1", "closed by its end: HEADERS", get(), either(CLOSED), then=get(), h2spec="http2/5.1/12"),
    Case("5.1", "closed by its end: CONTINUATION", get(), dies(PROTOCOL, CLOSED), then=f.frame(f.CONTINUATION, 4, 1), h2spec="http2/5.1/13"),
    Case("5.1", "closed by its end: WINDOW_UPDATE", get(), GOES_ON, then=f.window_update_frame(1, 1)),
    Case("5.1", "closed by its end: RST_STREAM", get(), GOES_ON, then=f.reset_frame(1, 8)),
    Case("5.1", "closed by RST_STREAM: RST_STREAM", post() + f.reset_frame(1, 8) * 2, GOES_ON),
    Case("5.1", "closed by RST_STREAM: WINDOW_UPDATE", post() + f.reset_frame(1, 8) + f.window_update_frame(1, 1), GOES_ON),
    Case("5.1", "closed by the server's reset: DATA on its way", post(1, (b"content-length", b"1")) + data(1, b"xx") + data(1), resets(PROTOCOL)),
    Case("5.1.1", "a client's stream with an even identifier", get(2), dies(PROTOCOL), h2spec="http2/5.1.1/1"),
    Case("5.1.1", "identifiers that go down", get(5) + get(3), dies(PROTOCOL), h2spec="http2/5.1.1/2"),
    Case("5.1.1", "identifiers that leave a gap", get(7), Expect("answer", stream_id=7)),
    Case("5.1.2", "one stream more than allowed", b"".join(post(i) for i in range(1, 203, 2)), resets("REFUSED_STREAM", PROTOCOL, stream_id=201), h2spec="http2/5.1.2/1"),
    # ------------------------------------------------------------ priorities, which RFC 9113 §5.3 lets us ignore
    Case("5.3.2", "HEADERS of a stream that depends on itself", f.frame(f.HEADERS, 0x25, 1, pack(">IB", 1, 255) + block(*REQUEST)), ANSWERED, h2spec="http2/5.3.1/1"),
    Case("5.3.2", "PRIORITY of a stream that depends on itself", priority(1, 1), GOES_ON, h2spec="http2/5.3.1/2"),
    Case("5.3.2", "PRIORITY of least weight", priority(1, weight=1) + get(), ANSWERED, h2spec="generic/3.3/1"),
    Case("5.3.2", "PRIORITY of most weight", priority(1, weight=256) + get(), ANSWERED, h2spec="generic/3.3/2"),
    Case("5.3.2", "PRIORITY that names another stream", priority(1, 3) + get(), ANSWERED, h2spec="generic/3.3/3"),
    Case("5.3.2", "PRIORITY that names another stream alone", priority(1, 3, exclusive=True) + get(), ANSWERED, h2spec="generic/3.3/4"),
    Case("5.3.2", "PRIORITY of a later stream does not use up its identifier", priority(3) + get(), ANSWERED, h2spec="generic/3.3/5"),
    # ------------------------------------------------------------ DATA
    Case("6.1", "DATA", post() + data(1, b"x", f.END_STREAM), ANSWERED, h2spec="generic/3.1/1 generic/4/3"),
    Case("6.1", "DATA twice", post() + data(1) + data(1, b"x", f.END_STREAM), ANSWERED, h2spec="generic/3.1/2"),
    Case("6.1", "DATA on stream 0", data(0), dies(PROTOCOL), h2spec="http2/6.1/1"),
    Case("6.1", "padding as long as the frame", post() + data(1, b"\x05xxxx", f.PADDED), dies(PROTOCOL), h2spec="http2/6.1/3"),
    Case("6.1", "padded, without a pad length", post() + data(1, b"", f.PADDED), dies(SIZE, PROTOCOL)),
    Case("6.1", "nothing but padding", post() + data(1, b"\x03\0\0\0", f.PADDED | f.END_STREAM), ANSWERED),
    Case("6.1", "padding that does not count as content", post(1, (b"content-length", b"1")) + data(1, b"\x02x\0\0", f.PADDED | f.END_STREAM), ANSWERED, h2spec="generic/3.1/3"),
    # ------------------------------------------------------------ HEADERS
    Case("6.2", "HEADERS", get(), ANSWERED, h2spec="generic/3.2/1 generic/4/1 generic/5/1"),
    Case("6.2", "HEADERS on stream 0", get(0), dies(PROTOCOL), h2spec="http2/6.2/3"),
    Case("6.2", "padding longer than HEADERS", f.frame(f.HEADERS, 0xD, 1, b"\xff" + block(*REQUEST)), dies(PROTOCOL), h2spec="http2/6.2/4"),
    Case("6.2", "padded HEADERS", f.frame(f.HEADERS, 0xD, 1, b"\x02" + block(*REQUEST) + b"\0\0"), ANSWERED, h2spec="generic/3.2/2"),
    Case("6.2", "HEADERS with priority", f.frame(f.HEADERS, 0x25, 1, bytes(5) + block(*REQUEST)), ANSWERED, h2spec="generic/3.2/3"),
    Case("6.2", "HEADERS too short for its priority", f.frame(f.HEADERS, 0x25, 1, bytes(3)), dies(SIZE, PROTOCOL)),
    # ------------------------------------------------------------ PRIORITY, RST_STREAM
    Case("6.4", "RST_STREAM", post() + f.reset_frame(1, 8), GOES_ON, h2spec="generic/3.4/1"),
    Case("6.3", "PRIORITY on stream 0", f.frame(f.PRIORITY, 0, 0, bytes(5)), dies(PROTOCOL), h2spec="http2/6.3/1"),
    Case("6.3", "PRIORITY of 4 bytes", post() + f.frame(f.PRIORITY, 0, 1, bytes(4)), either(SIZE), h2spec="http2/6.3/2"),
    Case("6.4", "RST_STREAM on stream 0", f.reset_frame(0, 8), dies(PROTOCOL), h2spec="http2/6.4/1"),
    Case("6.4", "RST_STREAM of 3 bytes", post() + f.frame(f.RST_STREAM, 0, 1, bytes(3)), dies(SIZE), h2spec="http2/6.4/3"),
    Case("6.4", "RST_STREAM with an unknown error code", post() + f.reset_frame(1, 0xFFFF), GOES_ON, h2spec="http2/7/2"),
    # ------------------------------------------------------------ SETTINGS
    Case("6.5", "an acknowledgement with a payload", f.frame(f.SETTINGS, f.ACK, 0, bytes(6)), dies(SIZE), h2spec="http2/6.5/1"),
    Case("6.5", "SETTINGS on a stream", f.frame(f.SETTINGS, 0, 1, b""), dies(PROTOCOL), h2spec="http2/6.5/2"),
    Case("6.5", "SETTINGS of 3 bytes", f.frame(f.SETTINGS, 0, 0, bytes(3)), dies(SIZE), h2spec="http2/6.5/3"),
    Case("6.5.3", "SETTINGS", settings(f.SETTING_MAX_CONCURRENT_STREAMS, 5), Expect("settings ack"), h2spec="generic/3.5/1 http2/6.5.3/2"),
    Case("6.5.2", "an unknown setting", settings(0x7777, 5), Expect("settings ack"), h2spec="http2/6.5.2/5"),
    Case("6.5.3", "the last of two values holds", f.settings_frame(((4, 100), (4, 1))) + get_body(), sends_data(1), h2spec="http2/6.5.3/1"),
    _setting("ENABLE_PUSH is 2", f.SETTING_ENABLE_PUSH, 2, PROTOCOL, h2spec="http2/6.5.2/1"),
    _setting("INITIAL_WINDOW_SIZE above 2^31-1", f.SETTING_INITIAL_WINDOW_SIZE, 1 << 31, FLOW, h2spec="http2/6.5.2/2 http2/6.9.2/3"),
    _setting("MAX_FRAME_SIZE below 2^14", f.SETTING_MAX_FRAME_SIZE, (1 << 14) - 1, PROTOCOL, h2spec="http2/6.5.2/3"),
    _setting("MAX_FRAME_SIZE above 2^24-1", f.SETTING_MAX_FRAME_SIZE, 1 << 24, PROTOCOL, h2spec="http2/6.5.2/4"),
    # ------------------------------------------------------------ PUSH_PROMISE, PING, GOAWAY
    Case("6.6", "PUSH_PROMISE from a client", get() + f.frame(f.PUSH_PROMISE, 4, 1, pack(">I", 2) + block(*REQUEST)), dies(PROTOCOL), h2spec="http2/8.2/1"),
    Case("6.7", "PING", f.ping_frame(b"12345678", ack=False), Expect("ping"), h2spec="generic/3.7/1 http2/6.7/1"),
    Case("6.7", "an acknowledgement that nobody asked for", f.ping_frame(b"87654321", ack=True), GOES_ON, h2spec="http2/6.7/2"),
    Case("6.7", "PING on a stream", f.frame(f.PING, 0, 1, bytes(8)), dies(PROTOCOL), h2spec="http2/6.7/3"),
    Case("6.7", "PING of 6 bytes", f.frame(f.PING, 0, 0, bytes(6)), dies(SIZE), h2spec="http2/6.7/4 http2/5.4.1/1 http2/5.4.1/2"),
    Case("6.8", "GOAWAY on a stream", f.frame(f.GOAWAY, 0, 1, bytes(8)), dies(PROTOCOL), h2spec="http2/6.8/1"),
    Case("6.8", "GOAWAY of 7 bytes", f.frame(f.GOAWAY, 0, 0, bytes(7)), dies(SIZE)),
    Case("6.8", "GOAWAY with debug data", f.goaway_frame(0, 0, b"bye"), GOES_ON),
    Case("6.8", "GOAWAY", f.goaway_frame(0, 0), GOES_ON, h2spec="generic/3.8/1"),
    Case("7", "GOAWAY with an unknown error code", f.goaway_frame(0, 0xFF), GOES_ON, h2spec="http2/7/1"),
    # ------------------------------------------------------------ WINDOW_UPDATE
    Case("6.9", "WINDOW_UPDATE on the connection", f.window_update_frame(0, 1), GOES_ON, h2spec="generic/3.9/1"),
    Case("6.9.1", "a window of one byte", window(1) + get_body(), sends_data(1), h2spec="http2/6.9.1/1"),
    Case("6.9.2", "a window of 0 that becomes 1", window(0) + get_body(), sends_data(1), then=window(1), h2spec="http2/6.9.2/1"),
    Case("6.9.2", "a window that shrinks below 0 and comes back", window(3) + get_body(), sends_data(3, 1), then=window(2) + f.window_update_frame(1, 2), h2spec="http2/6.9.2/2"),
    Case("6.9.2", "a window that is below 0 lets nothing through", window(3) + get_body(), sends_data(3), then=window(0) + f.window_update_frame(1, 3)),
    Case("6.9", "an increment of 0 on a stream", post() + f.window_update_frame(1, 0), either(PROTOCOL), h2spec="http2/6.9/2"),
    Case("6.9", "an increment of 0 on the connection", f.window_update_frame(0, 0), dies(PROTOCOL), h2spec="http2/6.9/1"),
    Case("6.9", "WINDOW_UPDATE of 3 bytes", f.frame(f.WINDOW_UPDATE, 0, 0, bytes(3)), dies(SIZE), h2spec="http2/6.9/3"),
    Case("6.9.1", "a stream's window above 2^31-1", post() + f.window_update_frame(1, f.MAX_WINDOW), resets(FLOW), h2spec="http2/6.9.1/3"),
    Case("6.9.1", "the connection's window above 2^31-1", f.window_update_frame(0, f.MAX_WINDOW), dies(FLOW), h2spec="http2/6.9.1/2"),
    Case(
        "6.9.2",
        "an initial window that lifts an open stream above 2^31-1",
        post() + f.window_update_frame(1, 1 << 30) + settings(f.SETTING_INITIAL_WINDOW_SIZE, f.MAX_WINDOW),
        dies(FLOW),
    ),
    # ------------------------------------------------------------ CONTINUATION
    Case("6.10", "one request in three fragments", headers(1, *REQUEST[:2], flags=0) + f.frame(f.CONTINUATION, 0, 1, block(REQUEST[2])) + f.frame(f.CONTINUATION, 4, 1, block(REQUEST[3])), ANSWERED, h2spec="generic/3.10/2 http2/6.10/1"),
    Case("6.10", "one request in two fragments", headers(1, *REQUEST[:2], flags=0) + f.frame(f.CONTINUATION, 4, 1, block(*REQUEST[2:])), ANSWERED, h2spec="generic/3.10/1"),
    Case("6.10", "CONTINUATION after the last CONTINUATION", headers(1, *REQUEST, flags=0) + f.frame(f.CONTINUATION, 4, 1) * 2, dies(PROTOCOL), h2spec="http2/6.10/5"),
    Case("6.10", "CONTINUATION after DATA", post() + data(1) + f.frame(f.CONTINUATION, 4, 1, block((b"x", b"1"))), dies(PROTOCOL), h2spec="http2/6.10/6"),
    Case("6.10", "CONTINUATION on another stream", headers(1, *REQUEST, flags=0) + f.frame(f.CONTINUATION, 4, 3, b""), dies(PROTOCOL)),
    Case("6.10", "CONTINUATION on stream 0", headers(1, *REQUEST, flags=0) + f.frame(f.CONTINUATION, 4, 0, b""), dies(PROTOCOL), h2spec="http2/6.10/3"),
    Case("6.10", "DATA where CONTINUATION must come", headers(1, *REQUEST, flags=0, end=False) + data(1), dies(PROTOCOL), h2spec="http2/6.10/2"),
    # ------------------------------------------------------------ messages
    Case("8.1", "HEAD", headers(1, (b":method", b"HEAD"), *REQUEST[1:]), ANSWERED, h2spec="generic/4/2"),
    Case("8.1", "trailers", post() + data(1) + headers(1, (b"x-sum", b"1")), ANSWERED, h2spec="generic/4/4"),
    Case("8.1", "trailers without END_STREAM", post() + data(1) + headers(1, (b"x", b"1"), end=False), resets(PROTOCOL), h2spec="http2/8.1/1"),
    Case("8.1", "trailers with a pseudo-header", post() + headers(1, (b":method", b"GET")), resets(PROTOCOL), h2spec="http2/8.1.2.1/3"),
    Case("8.1.1", "more content than content-length says", post(1, (b"content-length", b"1")) + data(1, b"xx", 1), resets(PROTOCOL)),
    Case("8.1.1", "less content than content-length says", post(1, (b"content-length", b"2")) + data(1, b"x", 1), resets(PROTOCOL), h2spec="http2/8.1.2.6/1"),
    Case("8.1.1", "less content in several frames", post(1, (b"content-length", b"3")) + data(1) + data(1, b"x", 1), resets(PROTOCOL), h2spec="http2/8.1.2.6/2"),
    Case("8.1.1", "content-length without content", headers(1, *POST, (b"content-length", b"2")), resets(PROTOCOL)),
    Case("8.1.1", "trailers before the content is whole", post(1, (b"content-length", b"2")) + data(1) + headers(1, (b"x", b"1")), resets(PROTOCOL)),
    Case("8.1.1", "exactly what content-length says", post(1, (b"content-length", b"2")) + data(1, b"xx", 1), ANSWERED),
    _malformed("two values of content-length", *POST, (b"content-length", b"0"), (b"content-length", b"1")),
    _malformed("a content-length that is no number", *POST, (b"content-length", b"+1")),
    _malformed("an upper-case field name", *REQUEST, (b"X-Upper", b"1"), h2spec="http2/8.1.2/1"),
    _malformed("an empty field name", *REQUEST, (b"", b"1")),
    _malformed("a field name with a space", *REQUEST, (b"a b", b"1")),
    _malformed("a line feed in a value", *REQUEST, (b"x", b"1\nget: /")),
    _malformed("a NUL in a value", *REQUEST, (b"x", b"1\0")),
    _malformed("white space before a value", *REQUEST, (b"x", b" 1")),
    _malformed("an unknown pseudo-header", *REQUEST, (b":unknown", b"1"), h2spec="http2/8.1.2.1/1"),
    _malformed("a response's pseudo-header", *REQUEST, (b":status", b"200"), h2spec="http2/8.1.2.1/2"),
    _malformed("a pseudo-header after a field", *REQUEST[:3], (b"x", b"1"), REQUEST[3], h2spec="http2/8.1.2.1/4"),
    _malformed("a pseudo-header twice", *REQUEST, REQUEST[0], h2spec="http2/8.1.2.3/5"),
    _malformed("two of :scheme", *REQUEST, REQUEST[1], h2spec="http2/8.1.2.3/6"),
    _malformed("two of :path", *REQUEST, REQUEST[2], h2spec="http2/8.1.2.3/7"),
    _malformed("no :method", *REQUEST[1:], h2spec="http2/8.1.2.3/2"),
    _malformed("no :scheme", REQUEST[0], *REQUEST[2:], h2spec="http2/8.1.2.3/3"),
    _malformed("no :path", *REQUEST[:2], REQUEST[3], h2spec="http2/8.1.2.3/4"),
    _malformed("an empty :path", *REQUEST[:2], (b":path", b""), REQUEST[3], h2spec="http2/8.1.2.3/1"),
    _malformed("a :path with a fragment", *REQUEST[:2], (b":path", b"/#f"), REQUEST[3]),
    _malformed("a :path with a space", *REQUEST[:2], (b":path", b"/ HTTP/1.1"), REQUEST[3]),
    _malformed("a :path of * without OPTIONS", *REQUEST[:2], (b":path", b"*"), REQUEST[3]),
    _malformed("neither :authority nor host", *REQUEST[:3]),
    _malformed("user information in :authority", *REQUEST[:3], (b":authority", b"me@localhost")),
    _malformed("host that is not :authority", *REQUEST, (b"host", b"elsewhere")),
    _malformed("connection", *REQUEST, (b"connection", b"keep-alive"), h2spec="http2/8.1.2.2/1"),
    _malformed("transfer-encoding", *REQUEST, (b"transfer-encoding", b"chunked")),
    _malformed("keep-alive", *REQUEST, (b"keep-alive", b"timeout=5")),
    _malformed("proxy-connection", *REQUEST, (b"proxy-connection", b"keep-alive")),
    _malformed("upgrade", *REQUEST, (b"upgrade", b"h2c")),
    _malformed("te that is not trailers", *REQUEST, (b"te", b"gzip"), h2spec="http2/8.1.2.2/2"),
    Case("8.2.2", "te: trailers", headers(1, *REQUEST, (b"te", b"trailers")), ANSWERED),
    Case("8.3.1", "host instead of :authority", headers(1, *REQUEST[:3], (b"host", b"a")), ANSWERED),
    Case("8.3.1", "OPTIONS *", headers(1, (b":method", b"OPTIONS"), REQUEST[1], (b":path", b"*"), REQUEST[3]), ANSWERED),
    Case("8.5", "CONNECT with a path", headers(1, (b":method", b"CONNECT"), *REQUEST[1:]), resets(PROTOCOL)),
    Case("8.5", "CONNECT without an authority", headers(1, (b":method", b"CONNECT")), resets(PROTOCOL)),
    # ------------------------------------------------------------ HPACK
    *_field("7541 6.2.1", "a literal that is indexed", 0x40, 2),
    *_field("7541 6.2.2", "a literal that is not indexed", 0x00, 6),
    *_field("7541 6.2.3", "a literal that is never indexed", 0x10, 10),
    Case("7541 2.3.3", "an index beyond both tables", f.frame(f.HEADERS, 5, 1, b"\xc6"), dies(COMPRESSION), h2spec="hpack/2.3.3/1"),
    Case("7541 2.3.3", "a name by an index beyond both tables", f.frame(f.HEADERS, 5, 1, block(*REQUEST) + b"\x7f\x07\x01a"), dies(COMPRESSION)),
    Case("7541 4.2", "a table size update after a field", f.frame(f.HEADERS, 5, 1, block(*REQUEST) + b"\x20"), dies(COMPRESSION), h2spec="hpack/4.2/1"),
    Case("7541 5.2", "a string longer than the block", f.frame(f.HEADERS, 5, 1, b"\x00\x01a\x05b"), dies(COMPRESSION)),
    Case("7541 5.2", "Huffman padding of more than 7 bits", f.frame(f.HEADERS, 5, 1, b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), dies(COMPRESSION), h2spec="hpack/5.2/1"),
    Case("7541 5.2", "Huffman padding of zeros", f.frame(f.HEADERS, 5, 1, block(*REQUEST) + b"\x00\x01a\x81\x18"), dies(COMPRESSION), h2spec="hpack/5.2/2"),
    Case("7541 5.2", "the Huffman end-of-string symbol", f.frame(f.HEADERS, 5, 1, b"\x00\x84\xff\xff\xff\xff\x01a"), dies(COMPRESSION), h2spec="hpack/5.2/3"),
    Case("7541 6.1", "index 0", f.frame(f.HEADERS, 5, 1, b"\x80"), dies(COMPRESSION), h2spec="hpack/6.1/1"),
    Case("7541 6.3", "a table size above the one allowed", f.frame(f.HEADERS, 5, 1, b"\x3f\xe1\xff\x03"), dies(COMPRESSION), h2spec="hpack/6.3/1"),
    Case("7541 6.3", "a table size within the one allowed", f.frame(f.HEADERS, 5, 1, b"\x20" + block(*REQUEST)), ANSWERED, h2spec="generic/5/14"),
    Case("7541 6.3", "two table sizes in one block", f.frame(f.HEADERS, 5, 1, b"\x20\x3f\x61" + block(*REQUEST)), ANSWERED, h2spec="generic/5/15"),
)  # fmt: skip
