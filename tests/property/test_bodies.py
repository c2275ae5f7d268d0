"""Any body whatever: it is refused, or merging it with another loses and adds nothing.

Bodies are broken in the ways in which clients break them: repeated and escaped keys, marks in strings, byte
order marks, other encodings, tokens that are not JSON, depth, emptiness.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.batching.codecs import CODECS
from proxy.errors import MergeRefused
from tests.support.literal_json import loads

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Prepared

NAMES = (
    "instances",
    "inputs",
    "input",
    "prompt",
    "examples",
    "dataframe_split",
    "dataframe_records",
    "id",
    "x",
)
LEAVES = (
    "1",
    "-0.0",
    "1e400",
    "9007199254740993",
    "NaN",
    "-Infinity",
    "null",
    "true",
    '"s"',
    '"\\u0041\\""',
    '""',
)


def escaped(name: str) -> str:
    return f'"\\u{ord(name[0]):04x}{name[1:]}"'


keys = st.one_of(st.sampled_from(NAMES).map(json.dumps), st.sampled_from(NAMES).map(escaped))
documents = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(st.tuples(keys, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)
objects = st.lists(st.tuples(keys, documents), min_size=1, max_size=4).map(
    lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
)
bodies = st.one_of(
    objects.map(str.encode),
    documents.map(str.encode),
    objects.map(lambda text: text.encode("utf-8-sig")),
    objects.map(lambda text: text.encode("utf-16")),
    objects.map(lambda text: text.replace("s", "é").encode("latin-1")),
    st.binary(max_size=30),
    st.integers(0, 900).map(lambda depth: b'{"instances":' + b"[" * depth + b"1" + b"]" * depth + b"}"),
)


def leaves(document: object) -> list[str]:
    """Every scalar, as text; keys are not leaves."""
    found, waiting = [], [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, tuple):
            waiting += [value for _, value in one]
        else:
            found.append(str(one))
    return found


def merge_twice(codec_name: str, body: bytes) -> tuple[Prepared, bytes] | None:
    codec = CODECS[codec_name]
    with contextlib.suppress(MergeRefused):
        one, other = codec.prepare(body, ()), codec.prepare(body, ())
        assert one.key == other.key
        assert one.items >= 1
        return one, codec.merge([one, other])[0]
    return None


@pytest.mark.parametrize("codec_name", CODECS)
@given(body=bodies)
@example(body=b'{"instances":[1],"instances":[2]}')
@example(body=b'{"instances":[1],"\\u0069nstances":[2]}')
@example(body=b'{"inputs":"a","inputs":"b"}')
@example(body=b"[{}]")
@example(body=b"")
@example(body=b'{"instances":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
def test_a_body_is_refused_or_merged_without_loss(codec_name: str, body: bytes) -> None:
    result = merge_twice(codec_name, body)
    if result is None:
        return
    _, merged = result
    before, after = loads(body), loads(merged)
    # The payload is there twice and everything else once: no leaf was lost, changed or invented.
    counted, found = leaves(before), leaves(after)
    assert set(found) == set(counted)
    assert all(counted.count(leaf) <= found.count(leaf) <= 2 * counted.count(leaf) for leaf in set(counted))
    names = [key for key, _ in after] if isinstance(after, tuple) else []
    assert len(names) == len(set(names))
