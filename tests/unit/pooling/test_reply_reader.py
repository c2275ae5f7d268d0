from __future__ import annotations

import pytest

from proxy.errors import BadReply, Reset
from proxy.pooling.known_heads import HeadTable
from proxy.pooling.reply_reader import ReplyReader

PLAIN = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
)


def reader(method: bytes = b"GET", table: HeadTable | None = None) -> ReplyReader:
    made = ReplyReader(HeadTable() if table is None else table)
    made.expect(method)
    return made


def feed(subject: ReplyReader, data: bytes) -> bool:
    """Whether the answer is complete with `data`."""
    subject.feed(data)
    return subject.is_complete


def body(subject: ReplyReader) -> bytes:
    return b"".join(subject.chunks)


# ------------------------------------------------------------------ whole answers, however they arrive
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_an_answer_may_be_cut_anywhere(answer: bytes) -> None:
    for cut in range(1, len(answer)):
        subject = reader()
        assert not feed(subject, answer[:cut])
        assert feed(subject, answer[cut:])
        assert subject.is_clean
        assert body(subject) == b"hello"


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_an_answer_may_come_byte_by_byte(answer: bytes) -> None:
    subject = reader()
    for index in range(len(answer)):
        subject.feed(answer[index : index + 1])
    assert subject.is_clean
    assert body(subject) == b"hello"
    assert subject.missing in {0, None}


def test_a_stream_goes_on_from_read_to_read_and_ends_clean() -> None:
    subject = reader()
    for again in range(2):
        subject.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"3\r\nhel\r\n", b"2\r\nlo\r\n1\r", b"\n!\r\n"):
            assert not feed(subject, piece)
        assert feed(subject, b"0\r\n\r\n")
        assert subject.is_clean
        assert body(subject) == b"hello!"
        subject.expect(b"GET")
        assert not subject.is_started, again


@pytest.mark.parametrize("rest", [b"zz\r\nhel\r\n", b"3\r\nhell", b"HTTP/1.1 200 OK\r\n"])
def test_a_stream_that_loses_its_framing_is_a_bad_reply(rest: bytes) -> None:
    subject = reader()
    subject.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    subject.feed(b"3\r\nhel\r\n")
    with pytest.raises(BadReply):
        subject.feed(rest)


def test_what_follows_a_stream_in_its_last_read_is_surplus() -> None:
    subject = reader()
    subject.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    subject.feed(b"3\r\nhel\r\n")
    assert feed(subject, b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
    assert subject.has_surplus
    assert body(subject) == b"hel"


def test_trailers_are_complete_at_the_end() -> None:
    subject = reader()
    subject.feed(CHUNKED)
    assert subject.has_trailers
    assert subject.trailers == ((b"X-Sum", b"1"),)


def test_trailers_do_not_outlive_their_answer() -> None:
    table = HeadTable()
    reader(table=table).feed(PLAIN)
    subject = reader(table=table)
    subject.feed(CHUNKED)
    subject.expect(b"GET")
    subject.feed(PLAIN)
    assert not subject.has_trailers


def test_nothing_has_started_before_the_first_byte() -> None:
    subject = reader()
    started = [subject.is_started]
    subject.feed(b"H")
    started.append(subject.is_started)
    subject.expect(b"GET")
    started.append(subject.is_started)
    assert started == [False, True, False]


def test_answers_follow_each_other() -> None:
    subject = reader()
    for answer in (PLAIN, CHUNKED, PLAIN, CHUNKED):
        subject.expect(b"GET")
        subject.feed(answer)
        assert subject.is_clean
        assert body(subject) == b"hello"


# ------------------------------------------------------------------ known heads
def test_a_known_head_gives_the_same_answer() -> None:
    table = HeadTable()
    first, second = reader(table=table), reader(table=table)
    first.feed(PLAIN)
    assert len(table) == 1
    second.feed(PLAIN.replace(b"hello", b"world"))
    assert second.head is first.head
    assert body(second) == b"world"
    assert second.is_clean


def test_a_known_head_with_part_of_its_body_is_read_on() -> None:
    table = HeadTable()
    reader(table=table).feed(PLAIN)
    for cut in range(1, len(PLAIN)):
        subject = reader(table=table)
        subject.feed(PLAIN[:cut])
        subject.feed(PLAIN[cut:])
        assert body(subject) == b"hello"


def test_a_known_head_with_surplus_is_not_clean() -> None:
    table = HeadTable()
    reader(table=table).feed(PLAIN)
    subject = reader(table=table)
    subject.feed(PLAIN + b"HTTP/1.1 200 OK\r\n")
    assert subject.is_complete
    assert not subject.is_clean


def test_surplus_after_a_body_in_two_reads_is_not_clean() -> None:
    subject = reader()
    subject.feed(PLAIN[:-3])
    subject.feed(b"lloHTTP/1.1 200 OK\r\n")
    assert body(subject) == b"hello"
    assert subject.is_complete
    assert not subject.is_clean


def test_a_known_head_does_not_answer_head() -> None:
    table = HeadTable()
    empty = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    reader(table=table).feed(empty)
    subject = reader(b"HEAD", table)
    subject.feed(empty)
    assert subject.head is not None
    assert subject.head.declared_length == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000 + b"\r\nContent-Length: 2\r\n\r\nhi",
    ],
    ids=["closing", "chunked", "bodiless", "leading lines", "interim", "long"],
)
def test_only_plain_heads_are_remembered(answer: bytes) -> None:
    table = HeadTable()
    subject = reader(table=table)
    subject.feed(answer)
    assert subject.is_complete
    assert len(table) == 0


def test_the_table_is_bounded() -> None:
    table = HeadTable()
    subject = reader(table=table)
    for index in range(600):
        subject.expect(b"GET")
        subject.feed(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 0\r\n\r\n" % index)
    assert len(table) <= 256


# ------------------------------------------------------------------ answers without a body
@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""],
    ids=["length", "chunked", "none"],
)
def test_an_answer_to_head_ends_with_its_head(framing: bytes) -> None:
    subject = reader(b"HEAD")
    for _ in range(2):
        subject.expect(b"HEAD")
        subject.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        assert subject.is_clean
        assert body(subject) == b""
    subject.expect(b"GET")
    subject.feed(PLAIN)
    assert body(subject) == b"hello"


@pytest.mark.parametrize("surplus", [b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"\r\n", b"HTTP/1.1"])
@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_a_body_after_the_answer_to_head_is_surplus(framing: bytes, surplus: bytes) -> None:
    subject = reader(b"HEAD")
    subject.feed(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + surplus)
    assert subject.is_complete
    assert not subject.is_clean
    assert body(subject) == b""


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body(status: bytes) -> None:
    subject = reader()
    subject.feed(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\n")
    assert subject.is_clean
    assert body(subject) == b""


# ------------------------------------------------------------------ interim answers and upgrades
def test_interim_answers_are_put_aside() -> None:
    subject = reader()
    subject.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert subject.informational == [(100, ()), (103, ((b"Link", b"x"),))]
    assert feed(subject, PLAIN)
    assert subject.is_clean
    assert body(subject) == b"hello"


def test_a_switch_of_protocols_ends_http() -> None:
    subject = reader()
    subject.feed(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw")
    assert subject.tunnelled == b"raw"
    assert subject.head is not None
    assert subject.head.status == 101


# ------------------------------------------------------------------ the end of the connection
def test_the_end_may_delimit_a_body() -> None:
    subject = reader()
    assert not feed(subject, b"HTTP/1.0 200 OK\r\n\r\nhel")
    assert not feed(subject, b"lo")
    subject.eof()
    assert subject.is_complete
    assert body(subject) == b"hello"
    assert not subject.is_clean


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_an_early_end_is_a_reset_at_every_offset(answer: bytes) -> None:
    for cut in range(len(answer)):
        subject = reader()
        if cut:
            subject.feed(answer[:cut])
        with pytest.raises(Reset):
            subject.eof()


# ------------------------------------------------------------------ what is not HTTP
@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"\r\nICE/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ],
)
def test_what_is_not_http_is_a_bad_reply(answer: bytes) -> None:
    with pytest.raises(BadReply):
        reader().feed(answer)


def test_garbage_at_every_offset_never_makes_a_clean_answer_of_another_body() -> None:
    for cut in range(len(PLAIN)):
        subject = reader()
        try:
            subject.feed(PLAIN[:cut] + b"\x00\xff\x00" + PLAIN[cut:])
        except BadReply:
            continue
        assert not subject.is_clean or body(subject) == b"hello"


def test_an_endless_head_is_refused() -> None:
    subject = reader()
    line = b"X: " + b"x" * 97 + b"\r\n"
    subject.feed(b"HTTP/1.1 200 OK\r\n" + line * 2000)
    with pytest.raises(BadReply, match="too long"):
        subject.feed(line * 2000)


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00"])
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")])
def test_bytes_after_an_answer_belong_to_nobody(answer: bytes, surplus: bytes) -> None:
    subject = reader()
    subject.feed(answer + surplus)
    assert subject.is_complete
    assert not subject.is_clean
    assert body(subject) == b"hello"
    assert subject.trailers == (((b"X-Sum", b"1"),) if answer is CHUNKED else ())
