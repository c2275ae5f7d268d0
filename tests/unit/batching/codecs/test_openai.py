"""OpenAI's embeddings and completions by example."""

from __future__ import annotations

import json

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, prepare, refusal, split, uncut

EMBED, COMPLETE = "openai_embeddings", "openai_completions"
TEXT, TEXTS = b'{"model":"m","input":"hello"}', b'{"model":"m","input":["a","b"]}'
TOKENS, TOKEN_LISTS = b'{"model":"m","input":[1,2,3]}', b'{"model":"m","input":[[4],[5,6]]}'


def embeddings(order: tuple[int, ...], usage: object = None) -> bytes:
    data = [{"object": "embedding", "index": index, "embedding": [index + 0.5]} for index in order]
    more = {} if usage is None else {"usage": usage}
    return json.dumps({"object": "list", "data": data, "model": "m", **more}).encode()


def test_texts_of_every_spelling_are_joined() -> None:
    assert merged(EMBED, TEXT, TEXTS) == b'{"input":["hello","a","b"],"model":"m"}'
    assert merged(EMBED, TOKENS, TOKEN_LISTS) == b'{"input":[[1,2,3],[4],[5,6]],"model":"m"}'


def test_a_list_of_numbers_is_one_text_and_never_joins_words() -> None:
    assert prepare(EMBED, TOKENS)[0].items == 1
    assert key_of(EMBED, TOKENS) != key_of(EMBED, TEXT)
    assert key_of(EMBED, TOKENS) == key_of(EMBED, TOKEN_LISTS)


def test_answers_are_put_in_order_and_numbered_anew() -> None:
    one, two = (json.loads(part) for part in split(EMBED, embeddings((2, 0, 1)), TEXT, TEXTS))
    assert [entry["embedding"] for entry in one["data"]] == [[0.5]]
    assert [(entry["index"], entry["embedding"]) for entry in two["data"]] == [(0, [1.5]), (1, [2.5])]
    assert (two["object"], two["model"]) == ("list", "m")
    assert list(two) == ["object", "data", "model"]
    assert list(two["data"][0]) == ["object", "index", "embedding"]


def test_usage_is_shared_by_characters_however_they_are_spelt() -> None:
    bodies = [b'{"input":"h\\u00e9llo"}', '{"input":["ab","c\u00e9"]}'.encode(), b'{"input":"q\\"q"}']
    usage = {"prompt_tokens": 12}
    found = split(EMBED, embeddings((0, 1, 2, 3), usage), *bodies)
    assert [json.loads(part)["usage"]["prompt_tokens"] for part in found] == [5, 4, 3]


def test_usage_adds_up() -> None:
    usage = {"prompt_tokens": 6, "total_tokens": 6, "details": {"x": 1}, "cached": None}
    found = [
        json.loads(part)["usage"] for part in split(EMBED, embeddings((0, 1, 2), usage), TOKENS, TOKEN_LISTS)
    ]
    assert found == [{"prompt_tokens": 3, "total_tokens": 3, "cached": None}] * 2


@pytest.mark.parametrize(
    "answer",
    [
        embeddings((0, 1)),
        embeddings((0, 1, 1)),
        embeddings((0, 1, 2, 3)),
        embeddings((0, 1, 3)),
        b'{"object":"list"}',
        b'{"data":[{"embedding":[]},{},{}]}',
        b'{"data":[1,2,3]}',
        b'{"data":[{"index":0},{"index":1},{"index":2}],"more":[]}',
    ],
)
def test_an_answer_that_is_not_one_entry_for_each_is_not_cut(answer: bytes) -> None:
    assert uncut(EMBED, answer, TEXT, TEXTS)


def test_the_model_is_named_by_the_body() -> None:
    assert prepare(EMBED, TEXT)[0].model == "m"
    assert key_of(EMBED, TEXT) != key_of(EMBED, TEXT.replace(b'"m"', b'"n"'))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"input":[]}', "empty"),
        (b'{"input":["a",1]}', "form"),
        (b'{"input":{"a":1}}', "form"),
        (b'{"model":"m"}', "form"),
        (b'{"input":"a","input":"b"}', "duplicate_keys"),
        (b"[]", "form"),
        (b'{"input":', "not_json"),
    ],
)
def test_what_is_not_understood_is_refused(body: bytes, why: str) -> None:
    assert refusal(EMBED, body) == why


def test_prompts_have_n_choices_each() -> None:
    one, two = b'{"prompt":"a","n":2}', b'{"prompt":["b","c"],"n":2}'
    assert merged(COMPLETE, one, two) == b'{"prompt":["a","b","c"],"n":2}'
    choices = [{"text": f"t{index}", "index": index} for index in range(6)]
    answer = json.dumps({"id": "cmpl-1", "choices": choices, "usage": {"total_tokens": 9}}).encode()
    first, second = (json.loads(part) for part in split(COMPLETE, answer, one, two))
    assert [choice["text"] for choice in first["choices"]] == ["t0", "t1"]
    assert [(choice["index"], choice["text"]) for choice in second["choices"]] == [
        (0, "t2"),
        (1, "t3"),
        (2, "t4"),
        (3, "t5"),
    ]
    assert (first["id"], second["id"]) == ("cmpl-1-0", "cmpl-1-1")
    assert first["usage"]["total_tokens"] + second["usage"]["total_tokens"] == 9


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"prompt":"a","stream":true}', "stream"),
        (b'{"prompt":"a","best_of":3}', "form"),
        (b'{"prompt":"a","n":0}', "form"),
        (b'{"prompt":"a","n":"2"}', "form"),
        (b'{"messages":[]}', "form"),
    ],
)
def test_streams_and_selections_are_refused(body: bytes, why: str) -> None:
    assert refusal(COMPLETE, body) == why


def test_defaults_spelt_out_are_no_obstacle() -> None:
    body = b'{"prompt":"a","stream":false,"best_of":1,"n":null}'
    assert prepare(COMPLETE, body)[0].items == 1
