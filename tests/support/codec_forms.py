"""Every form of every REST protocol that is merged: bodies of it, and a backend that answers with what it was asked.

The backend reads with another JSON reader than the codecs, which keeps numbers as they were written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.support.literal_json import Literal, field

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("FORMS", "Form", "Members", "Rows", "dumps", "members_of")

FRACTIONS = ("-0.0", "0.1", "1.10", "1e400", "-1E-7", "2.5e+3", "9007199254740993.0")
INTEGERS = ("0", "-0", "7", "-12", "9007199254740993", "123456789012345678")
TEXTS = (
    '"a"',
    '"\\u0061\\"b"',
    '"instances"',
    '"\\"instances\\":["',
    '"]},{"',
    '"é"',
    '"NaN"',
    '""',
    '"\\\\"',
)
SPACES = ("", " ", "\n\t ")

spaces = st.sampled_from(SPACES)


def scalars(kind: str) -> st.SearchStrategy[str]:
    pools = {
        "f": FRACTIONS,
        "d": tuple(text for text in FRACTIONS if text != "1e400"),  # where values have to be decoded
        "i": INTEGERS,
        "s": TEXTS,
        "b": ("true", "false"),
        "n": ("null",),
    }
    return st.sampled_from(pools[kind])


def rows_of(kind: str, shape: tuple[int, ...]) -> st.SearchStrategy[str]:
    """JSON text of a nested array of `shape` whose elements are of one kind."""
    if not shape:
        return scalars(kind)
    inner = st.lists(rows_of(kind, shape[1:]), min_size=shape[0], max_size=shape[0])
    return st.builds(lambda parts, gap: f"[{gap}" + f",{gap}".join(parts) + f"{gap}]", inner, spaces)


def objects_of(kinds: dict[str, str]) -> st.SearchStrategy[str]:
    """JSON text of an object with these keys, each of its kind."""
    values = st.tuples(*[scalars(kind) for kind in kinds.values()])
    return st.builds(
        lambda found, gap: "{" + ",".join(f'"{k}":{gap}{v}' for k, v in zip(kinds, found, strict=True)) + "}",
        values,
        spaces,
    )


shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
any_rows = st.one_of(
    st.builds(rows_of, st.sampled_from("fisbn"), shapes),
    st.dictionaries(st.sampled_from(("a", "b", "é", "c d")), st.sampled_from("disb"), min_size=1).map(
        objects_of
    ),
)
vectors = st.builds(rows_of, st.sampled_from("fi"), st.integers(1, 3).map(lambda size: (size,)))
texts = st.just(st.sampled_from(TEXTS))
tokens = st.just(rows_of("i", (2,)))
cells = st.builds(rows_of, st.sampled_from("dis"), st.integers(1, 3).map(lambda size: (size,)))
records = st.just(objects_of({"a": "d", "b": "i", "c": "s"}))

Rows = list[str]
Members = list[Rows]


def members_of(rows: st.SearchStrategy[str]) -> st.SearchStrategy[Members]:
    return st.lists(st.lists(rows, min_size=1, max_size=4), min_size=2, max_size=5)


@dataclass(frozen=True)
class Form:
    """One form of one protocol: how rows are asked about, and how the echoing backend answers."""

    codec: str
    rows: st.SearchStrategy[st.SearchStrategy[str]]
    ask: Callable[[Rows], str]
    echo: Callable[[object], Any]
    asked: Callable[[object], object]
    answered: Callable[[object], object]


def listed(ask: str, answer: str, codec: str, rows: st.SearchStrategy[st.SearchStrategy[str]]) -> Form:
    return Form(
        codec,
        rows,
        lambda rows: f'{{"{ask}":[{",".join(rows)}],"x":{{"k":1.50}}}}',
        lambda request: {answer: field(request, ask), "model": "m", "version": None},
        lambda request: field(request, ask),
        lambda reply: field(reply, answer),
    )


def named_columns(rows: Rows) -> str:
    return f'{{"inputs":{{"a":[{",".join(rows)}],"b":[{",".join(rows)}]}}}}'


def embedding_data(request: object) -> dict[str, object]:
    inputs = field(request, "input")
    assert isinstance(inputs, list)
    data = [
        (("object", "embedding"), ("index", index), ("embedding", one)) for index, one in enumerate(inputs)
    ]
    return {"object": "list", "data": list(reversed(data)), "usage": {"prompt_tokens": 40, "details": {}}}


def embeddings(reply: object) -> object:
    data = field(reply, "data")
    assert isinstance(data, list)
    assert [field(entry, "index") for entry in data] == [Literal(str(index)) for index in range(len(data))]
    return [field(entry, "embedding") for entry in data]


def choices_of(request: object) -> dict[str, object]:
    prompts = field(request, "prompt")
    assert isinstance(prompts, list)
    twice = [prompt for prompt in prompts for _ in range(2)]
    return {"id": "c", "choices": [(("text", text), ("index", index)) for index, text in enumerate(twice)]}


def completions(reply: object) -> object:
    choices = field(reply, "choices")
    assert isinstance(choices, list)
    return [field(choice, "text") for choice in choices][::2]


def ranking(request: object) -> object:
    found = field(request, "texts")
    assert isinstance(found, list)
    order = sorted(range(len(found)), key=lambda index: (index * 7) % 5)
    return [{"index": index, "score": 0.5, "text": found[index]} for index in order]


def ranked(reply: object) -> object:
    assert isinstance(reply, list)
    return [text for _, text in sorted((field(e, "index").text, field(e, "text")) for e in reply)]  # type: ignore[attr-defined]


FORMS = {
    "kserve_v1": listed("instances", "predictions", "kserve_v1", any_rows),
    "tf_serving rows": listed("instances", "predictions", "tf_serving", any_rows),
    "tf_serving examples": listed("examples", "results", "tf_serving_examples", records),
    "tf_serving column": listed("inputs", "outputs", "tf_serving", any_rows),
    "tf_serving columns": Form(
        "tf_serving",
        vectors,
        named_columns,
        lambda request: {"outputs": dict(field(request, "inputs"))},  # type: ignore[call-overload]
        lambda request: field(field(request, "inputs"), "b"),
        lambda reply: field(field(reply, "outputs"), "b"),
    ),
    "torchserve envelope": listed("instances", "predictions", "torchserve", any_rows),
    "torchserve list": Form(
        "torchserve",
        records,
        lambda rows: f"[{','.join(rows)}]",
        lambda request: request,
        lambda request: request,
        lambda reply: reply,
    ),
    "mlflow instances": listed("instances", "predictions", "mlflow", any_rows),
    "mlflow inputs": listed("inputs", "predictions", "mlflow", any_rows),
    "mlflow records": listed("dataframe_records", "predictions", "mlflow", records),
    "mlflow split": Form(
        "mlflow",
        cells,
        lambda rows: f'{{"dataframe_split":{{"data":[{",".join(rows)}],"columns":["a"]}},"params":{{}}}}',
        lambda request: {"predictions": field(field(request, "dataframe_split"), "data")},
        lambda request: field(field(request, "dataframe_split"), "data"),
        lambda reply: field(reply, "predictions"),
    ),
    "openai embeddings": Form(
        "openai_embeddings",
        st.one_of(texts, tokens),
        lambda rows: f'{{"model":"m","input":[{",".join(rows)}]}}',
        embedding_data,
        lambda request: field(request, "input"),
        embeddings,
    ),
    "openai completions": Form(
        "openai_completions",
        texts,
        lambda rows: f'{{"prompt":[{",".join(rows)}],"n":2}}',
        choices_of,
        lambda request: field(request, "prompt"),
        completions,
    ),
    "tei embed": Form(
        "tei_embed",
        st.one_of(texts, tokens),
        lambda rows: f'{{"inputs":[{",".join(rows)}]}}',
        lambda request: field(request, "inputs"),
        lambda request: field(request, "inputs"),
        lambda reply: reply,
    ),
    "tei predict": Form(
        "tei_predict",
        st.sampled_from((1, 2)).map(lambda width: rows_of("s", (width,))),
        lambda rows: f'{{"inputs":[{",".join(rows)}]}}',
        lambda request: field(request, "inputs"),
        lambda request: field(request, "inputs"),
        lambda reply: reply,
    ),
    "tei rerank": Form(
        "tei_rerank",
        texts,
        lambda rows: f'{{"query":"q","texts":[{",".join(rows)}]}}',
        ranking,
        lambda request: field(request, "texts"),
        ranked,
    ),
}


def dumps(value: object) -> str:
    """Write a document of `loads` (or plain values) again, numbers as they were."""
    match value:
        case Literal(text):
            return text
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
        case tuple():
            return "{" + ",".join(f"{json.dumps(key)}:{dumps(item)}" for key, item in value) + "}"
        case list():
            return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)
