"""Where events end, however a stream is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.streaming.sse import LineScanner, SseScanner, error_event, media_type, scanner_for


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"data: a\n\n", 1),
        (b"data: a\n\ndata: b\n\n", 2),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", 2),
        (b"data: a\r\rdata: b\r\r", 2),
        (b"data: a\n\r\ndata: b\r\n\n", 2),
        (b"data: a\r\ndata: b\r\n", 0),
        (b"data: a\ndata: b\n\ndata: c", 1),
    ],
)
def test_events_end_with_an_empty_line(data: bytes, count: int) -> None:
    scanner = SseScanner()
    assert scanner.feed(data) == count
    assert scanner.is_between == data.endswith((b"\n\n", b"\r\r", b"\n\r\n"))


EVENT = st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\r", b"x").replace(b"\n", b"y"))


@given(
    st.lists(EVENT, min_size=1, max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"]),
    st.data(),
)
def test_it_does_not_matter_where_the_stream_is_cut(
    events: list[bytes], end: bytes, data: st.DataObject
) -> None:
    text = b"".join(event + end for event in events)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=8)) | {len(text)})
    scanner = SseScanner()
    count, start = 0, 0
    for cut in cuts:
        count += scanner.feed(text[start:cut])
        start = cut
    assert count == len(events)
    assert scanner.is_between


def test_in_the_middle_of_an_event_is_not_between_two() -> None:
    scanner = SseScanner()
    assert scanner.is_between
    assert scanner.feed(b"data: caf\xc3") == 0
    assert not scanner.is_between
    assert scanner.feed(b"\xa9\n") == 0
    assert not scanner.is_between
    assert scanner.feed(b"\n") == 1
    assert scanner.is_between


def test_lines_are_the_events_of_newline_delimited_json() -> None:
    scanner = LineScanner()
    assert scanner.feed(b'{"a":1}\n{"a"') == 1
    assert not scanner.is_between
    assert scanner.feed(b":2}\n") == 1
    assert scanner.is_between


@pytest.mark.parametrize(
    ("media", "kind"),
    [
        (b"text/event-stream", SseScanner),
        (b"application/x-ndjson", LineScanner),
        (b"application/json", type(None)),
    ],
)
def test_the_media_type_says_whether_there_are_events(media: bytes, kind: type) -> None:
    assert type(scanner_for(media)) is kind


def test_the_media_type_is_compared_without_case_and_parameters() -> None:
    headers = ((b"X", b"y"), (b"Content-Type", b"Text/Event-Stream; charset=utf-8"))
    assert media_type(headers) == b"text/event-stream"
    assert media_type(()) == b""


def test_an_error_event_is_one_event_whose_data_is_an_openai_error() -> None:
    event = error_event("reset", 'the "backend"\nbroke off')
    assert SseScanner().feed(event) == 1
    data = event.partition(b"data: ")[2]
    assert json.loads(data)["error"]["message"] == 'the "backend"\nbroke off'
    assert json.loads(data)["error"]["code"] == "reset"
