import json

from proxy.demo.messages import Answer, ApiError, Request, chunk, error_answer, stream_head


def test_an_answer_on_the_wire() -> None:
    assert Answer(200, b"ok", b"text/plain", ((b"X-A", b"1"),)).render(keep_alive=False) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
        b"Connection: close\r\nX-A: 1\r\n\r\nok"
    )


def test_a_status_that_nobody_has_registered() -> None:
    assert Answer(599, b"").render().startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_errors_in_two_dialects() -> None:
    assert json.loads(error_answer(ApiError(404, "gone")).body) == {"error": "gone"}
    for status, kind in ((400, "invalid_request_error"), (500, "server_error")):
        document = json.loads(error_answer(ApiError(status, "no", "openai")).body)
        assert document["error"] == {"message": "no", "type": kind, "param": None, "code": None}


def test_a_request_splits_its_target_and_finds_its_fields() -> None:
    request = Request(b"GET", b"/a?b=c?d", [(b"host", b"x"), (b"host", b"y")])
    assert (request.path, request.query) == (b"/a", b"b=c?d")
    assert request.header(b"host") == b"x"
    assert request.header(b"none") is None


def test_the_head_of_a_stream() -> None:
    assert b"Transfer-Encoding: chunked\r\n" in stream_head(b"a/b", chunked=True, keep_alive=True)
    assert b"Content-Length: 5\r\n" in stream_head(b"a/b", chunked=False, keep_alive=True, length=5)
    unframed = stream_head(b"a/b", chunked=False, keep_alive=False)
    assert unframed == b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nConnection: close\r\n\r\n"


def test_chunks() -> None:
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert chunk(b"") == b"0\r\n\r\n"
