"""Text Embeddings Inference by example."""

from __future__ import annotations

import pytest

from tests.unit.batching.codecs.asking import key_of, merged, prepare, refusal, split, uncut

EMBED, PREDICT, RERANK = "tei_embed", "tei_predict", "tei_rerank"


def test_embedding_inputs_are_joined_and_always_answered_by_lists() -> None:
    one, two = b'{"inputs":"a","truncate":true}', b'{"truncate":true,"inputs":["b","c"]}'
    assert merged(EMBED, one, two) == b'{"inputs":["a","b","c"],"truncate":true}'
    assert split(EMBED, b"[[0.10],[2],[3]]", one, two) == [b"[[0.10]]", b"[[2],[3]]"]


@pytest.mark.parametrize("answer", [b"[[1],[2]]", b'{"error":"x"}', b"[[1],[2],[3],[4]]", b""])
def test_an_answer_that_is_not_one_embedding_for_each_is_not_cut(answer: bytes) -> None:
    assert uncut(EMBED, answer, b'{"inputs":"a"}', b'{"inputs":["b","c"]}')


SINGLE, LISTED = b'{"inputs":"a"}', b'{"inputs":[["b"],["c"]]}'
LABELS = b'[[{"label":"x","score":0.50}],[{"label":"y","score":1}],[{"label":"z","score":2}]]'


def test_single_texts_and_lists_share_a_call_and_get_their_own_form() -> None:
    assert merged(PREDICT, SINGLE, LISTED) == b'{"inputs":[["a"],["b"],["c"]]}'
    assert split(PREDICT, LABELS, SINGLE, LISTED) == [
        b'[{"label":"x","score":0.50}]',
        b'[[{"label":"y","score":1}],[{"label":"z","score":2}]]',
    ]


def test_a_list_of_one_text_is_that_text() -> None:
    assert merged(PREDICT, b'{"inputs":["a"]}', SINGLE) == b'{"inputs":[["a"],["a"]]}'


def test_two_texts_are_one_pair() -> None:
    pair, pairs = b'{"inputs":["a","b"]}', b'{"inputs":[["c","d"],["e","f"]]}'
    assert [one.items for one in prepare(PREDICT, pair, pairs)] == [1, 2]
    assert merged(PREDICT, pair, pairs) == b'{"inputs":[["a","b"],["c","d"],["e","f"]]}'
    assert split(PREDICT, LABELS, pair, pairs)[0] == b'[{"label":"x","score":0.50}]'
    assert key_of(PREDICT, pair) != key_of(PREDICT, SINGLE)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"inputs":["a","b","c"]}', "form"),
        (b'{"inputs":[["a"],["b","c"]]}', "form"),
        (b'{"inputs":[["a","b","c"]]}', "form"),
        (b'{"inputs":[[1]]}', "form"),
        (b'{"inputs":["a",1]}', "form"),
        (b'{"inputs":[]}', "empty"),
        (b'{"inputs":7}', "form"),
        (b"{}", "form"),
    ],
)
def test_predictions_that_are_not_understood_are_refused(body: bytes, why: str) -> None:
    assert refusal(PREDICT, body) == why


ASK, ASK_TWO = b'{"query":"q","texts":["a"]}', b'{"query":"q","texts":["b", "c"]}'


def test_texts_are_ranked_together_and_told_apart() -> None:
    assert merged(RERANK, ASK, ASK_TWO) == b'{"texts":["a","b", "c"],"query":"q"}'
    answer = b'[{"index":2,"score":0.90},{"index":0,"score":0.5,"text":"a"},{"index":1,"score":1e-3}]'
    assert split(RERANK, answer, ASK, ASK_TWO) == [
        b'[{"index":0,"score":0.5,"text":"a"}]',
        b'[{"index":1,"score":0.90},{"index":0,"score":1e-3}]',
    ]


def test_only_equal_queries_share_a_call() -> None:
    assert key_of(RERANK, ASK) != key_of(RERANK, b'{"query":"other","texts":["a"]}')


@pytest.mark.parametrize(
    "answer",
    [
        b'[{"index":0,"score":1}]',
        b'[{"index":0,"score":1},{"index":0,"score":1},{"index":1,"score":1}]',
        b'[{"index":0},{"index":1},{"index":2}]',
        b'{"results":[]}',
    ],
)
def test_a_ranking_of_other_texts_is_not_cut(answer: bytes) -> None:
    assert uncut(RERANK, answer, ASK, ASK_TWO)


@pytest.mark.parametrize(
    ("body", "why"),
    [(b'{"texts":["a"]}', "form"), (b'{"query":"q"}', "form"), (b'{"query":"q","texts":[1]}', "form")],
)
def test_rankings_that_are_not_understood_are_refused(body: bytes, why: str) -> None:
    assert refusal(RERANK, body) == why
