"""The head of an answer."""

from __future__ import annotations

import pytest

from proxy.exchange import Call, Reply
from proxy.ingress.headers import HeadWriter, interim_head, timing_fields


def writer() -> HeadWriter:
    subject = HeadWriter(b"")
    subject.date = b"now"
    return subject


def call(method: bytes = b"GET", version: int = 11) -> Call:
    made = Call(method, b"/", ())
    made.http_version = version
    return made


DATED = ((b"Date", b"then"),)


@pytest.mark.parametrize(
    ("method", "version", "status", "length", "keep_alive", "framing"),
    [
        (b"GET", 11, 200, 5, True, b"Content-Length: 5\r\n"),
        (b"GET", 11, 200, 5, False, b"Content-Length: 5\r\nConnection: close\r\n"),
        (b"GET", 11, 200, None, True, b"Transfer-Encoding: chunked\r\n"),
        (b"GET", 10, 200, None, False, b"Connection: close\r\n"),
        (b"GET", 10, 200, 5, True, b"Content-Length: 5\r\nConnection: keep-alive\r\n"),
        (b"HEAD", 11, 200, 0, True, b"Content-Length: 7\r\n"),
        (b"GET", 11, 304, 0, True, b"Content-Length: 7\r\n"),
        (b"GET", 11, 101, None, True, b"Connection: Upgrade\r\n"),
    ],
)
def test_framing(
    method: bytes, version: int, status: int, length: int | None, keep_alive: bool, framing: bytes
) -> None:
    reply = Reply(status, DATED, reason=b"R", declared_length=7)
    head = writer().head(call(method, version), reply, length, keep_alive=keep_alive)
    assert head == b"HTTP/1.1 %d R\r\nDate: then\r\n" % status + framing + b"\r\n"


def test_an_answer_to_nobody_knows_no_version() -> None:
    head = writer().head(None, Reply(400, DATED), 3, keep_alive=False)
    assert head == b"HTTP/1.1 400 Bad Request\r\nDate: then\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"


def test_nothing_is_declared_where_nothing_is_known() -> None:
    assert b"Content" not in writer().head(call(b"HEAD"), Reply(200, DATED), 0, keep_alive=True)
    assert writer().head(call(), Reply(299, DATED), 0, keep_alive=True).startswith(b"HTTP/1.1 299 \r\n")


def test_what_is_added_to_one_answer_is_not_remembered_with_the_rest() -> None:
    subject, first, second = writer(), Reply(200, DATED), Reply(200, DATED)
    first.added, second.added = ((b"Age", b"1"), (b"X", b"y")), ((b"Age", b"2"),)
    heads = [subject.head(call(), reply, 0, keep_alive=True) for reply in (first, second)]
    assert heads[0] == b"HTTP/1.1 200 OK\r\nDate: then\r\nAge: 1\r\nX: y\r\nContent-Length: 0\r\n\r\n"
    assert heads[1] == b"HTTP/1.1 200 OK\r\nDate: then\r\nAge: 2\r\nContent-Length: 0\r\n\r\n"


def test_date_id_and_via_are_added_where_they_lack() -> None:
    subject = HeadWriter(b"me")
    subject.date = b"now"
    head = subject.head(call(), Reply(200, ()), 0, keep_alive=True, request_id=b"r", more=b"X: y\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\nVia: 1.1 me\r\nDate: now\r\nX-Request-Id: r\r\nX: y\r\nContent-Length: 0\r\n\r\n"
    )
    own = Reply(200, ((b"date", b"then"), (b"X-REQUEST-ID", b"theirs")))
    assert b"now" not in subject.head(call(), own, 0, keep_alive=True, request_id=b"r")
    assert b": r\r\n" not in subject.head(call(), own, 0, keep_alive=True, request_id=b"r")


def test_what_is_remembered_belongs_to_one_head() -> None:
    subject = writer()
    fields = ((b"A", b"b"),)
    for _ in range(2):
        assert b"HTTP/1.1 200 OK\r\nA: b\r\n" in subject.head(call(), Reply(200, fields), 1, keep_alive=True)
        assert b"HTTP/1.1 500 Int" in subject.head(call(), Reply(500, fields), 1, keep_alive=True)
        fine = Reply(200, fields, reason=b"Fine")
        assert b"HTTP/1.1 200 Fine\r\n" in subject.head(call(), fine, 1, keep_alive=True)
    for number in range(1000):
        fields = ((b"N", b"%d" % number),)
        assert b"N: %d\r\n" % number in subject.head(call(), Reply(200, fields), 1, keep_alive=True)
    long = ((b"L", b"x" * 3000),)
    assert b"x" * 3000 in subject.head(call(), Reply(200, long), 1, keep_alive=True)


def test_interim_answers() -> None:
    assert interim_head(103, ((b"Link", b"</a>"),)) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert interim_head(100, ()) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_where_the_time_went() -> None:
    made = call()
    made.queue_s, made.pool_s, made.upstream_s = 0.001, 0.0, 0.0205
    assert timing_fields(made) == b"Server-Timing: queue;dur=1.000, pool;dur=0.000, upstream;dur=20.500\r\n"
    made.batch = b"size=3; trigger=idle"
    assert timing_fields(made).endswith(b"\r\nPillion-Batch: size=3; wait=1.0ms; trigger=idle\r\n")
