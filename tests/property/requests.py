"""Strategies for bytes that clients send: whole pipelines, and such with a few bytes spoilt."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ("cuts", "pipelines", "spoilt")

METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"QUERY", b"get"])
TARGETS = st.sampled_from([b"/", b"/a%2Fb?x=1", b"//x", b"/v1/models/m:predict", b"/~;a=b"])
BODIES = st.binary(max_size=40)
NAMES = st.sampled_from([b"Accept", b"x-a", b"X_B", b"Cookie", b"Connection", b"Content-Type"])
VALUES = st.sampled_from([b"", b"a", b"a, b", b"keep-alive", b"x=1; y=2", b"chunked", b"9"])
# What attacks on framing are made of; plain bytes besides.
POISON = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"0", b"-", b"\x0b", b"Content-Length: 4\r\n",
     b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"GET /s HTTP/1.1\r\nHost: h\r\n\r\n", b";", b"chunked", b"x"]
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One well-formed request with one of the three framings."""
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))
    body = draw(BODIES)
    lines = [
        b"%b %b HTTP/1.1" % (draw(METHODS), draw(TARGETS)),
        b"Host: h",
        *(b"%b: %b" % pair for pair in fields),
    ]
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "none":
        return b"\r\n".join(lines) + b"\r\n\r\n"
    if framing == "length":
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + draw(_chunks(body))


@st.composite
def _chunks(draw: st.DrawFn, body: bytes) -> bytes:
    extension = draw(st.sampled_from([b"", b";a", b';a="b c"']))
    pieces = [piece for piece in draw(cuts(body)) if piece]
    chunks = [b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces]
    return b"".join(chunks) + b"0\r\n" + draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])) + b"\r\n"


def pipelines() -> st.SearchStrategy[list[bytes]]:
    """One to four well-formed requests."""
    return st.lists(requests(), min_size=1, max_size=4)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces."""
    points = sorted(draw(st.sets(st.integers(0, len(data)), max_size=6)))
    return [data[start:end] for start, end in zip([0, *points], [*points, len(data)], strict=True)]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A pipeline in which up to three places are cut, overwritten or added to."""
    data = b"".join(draw(pipelines()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 0, 1, 2, 4]))
        data = data[:at] + draw(POISON | st.just(b"")) + data[at + length :]
    return data
