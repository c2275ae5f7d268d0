import base64
import json
import struct
from typing import Any

import pytest

from proxy.demo.messages import Answer, ApiError, Request, Send, Wait
from proxy.demo.openai import DIMENSIONS, Pace, chat, embed, embeddings

PACE = Pace(first_s=0.5, token_s=0.25)


def request(body: object) -> Request:
    return Request(b"POST", b"/", [], json.dumps(body).encode())


def vectors(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    inference = embeddings(request(body))
    answer = inference.run()
    assert isinstance(answer, Answer)
    return inference.items, json.loads(answer.body)


def talk(body: dict[str, Any], version: str = "1.1") -> tuple[list[float], list[bytes]]:
    asked = request(body)
    asked.version = version
    steps = list(chat(asked, PACE).steps)
    return (
        [step.span_s for step in steps if isinstance(step, Wait)],
        [step.data for step in steps if isinstance(step, Send)],
    )


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_an_embedding_is_a_unit_vector_and_similar_texts_are_near() -> None:
    first, near, far = embed("connection pool"), embed("connection pools"), embed("zebra")
    assert cosine(first, first) == pytest.approx(1)
    assert cosine(first, near) > 0.8 > cosine(first, far)
    assert len(first) == DIMENSIONS


@pytest.mark.parametrize(
    ("given", "items"),
    [("one text", 1), (["a b", "c"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
)
def test_a_text_and_a_token_array_are_one_item(given: object, items: int) -> None:
    counted, reply = vectors({"input": given, "model": "m"})
    assert counted == items == len(reply["data"])
    assert [entry["index"] for entry in reply["data"]] == list(range(items))
    assert reply["model"] == "m"


def test_usage_counts_words_and_tokens() -> None:
    assert vectors({"input": ["a b", "c"]})[1]["usage"]["total_tokens"] == 3
    assert vectors({"input": [[1, 2], [3]]})[1]["usage"]["prompt_tokens"] == 3


def test_base64_holds_the_same_floats() -> None:
    plain = vectors({"input": "text"})[1]["data"][0]["embedding"]
    packed = vectors({"input": "text", "encoding_format": "base64"})[1]["data"][0]["embedding"]
    assert struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(packed)) == pytest.approx(plain)


@pytest.mark.parametrize("given", [[], "", ["a", ""], [[]], ["a", 1], 5, {"a": 1}])
def test_what_cannot_be_embedded(given: object) -> None:
    with pytest.raises(ApiError) as caught:
        embeddings(request({"input": given}))
    assert (caught.value.status, caught.value.dialect) == (400, "openai")


def test_a_whole_chat_answer_comes_after_its_tokens_time() -> None:
    waits, (data,) = talk({"messages": [{"content": "say this"}], "max_tokens": 3})
    reply = json.loads(data.partition(b"\r\n\r\n")[2])
    assert waits == [0.5 + 3 * 0.25]
    assert reply["choices"][0]["message"]["content"] == "say this say"
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_a_stream_sends_one_event_for_each_token() -> None:
    waits, sent = talk({"messages": [{"content": "one two"}], "stream": True})
    assert waits == [0.5, 0.25, 0.25]
    assert b"text/event-stream" in sent[0]
    assert b"Transfer-Encoding: chunked" in sent[0]
    assert sent[-1] == b"0\r\n\r\n"
    assert b"data: [DONE]\n\n" in sent[-2]
    assert [token for token in (b'"one "', b'"two "') if any(token in data for data in sent)] == [
        b'"one "',
        b'"two "',
    ]


def test_a_stream_for_http_1_0_is_not_chunked() -> None:
    _, sent = talk({"messages": [{"content": "one"}], "stream": True}, version="1.0")
    assert b"chunked" not in sent[0]
    assert sent[-1] == b"data: [DONE]\n\n"


def test_usage_on_request_precedes_the_end_of_a_stream() -> None:
    body = {"messages": [{"content": "x"}], "stream": True, "stream_options": {"include_usage": True}}
    _, sent = talk(body)
    assert b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}' in sent[-3]


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": [{"content": " "}]}, {"messages": 1}])
def test_what_cannot_be_answered(body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        chat(request(body), PACE)
    assert caught.value.dialect == "openai"
