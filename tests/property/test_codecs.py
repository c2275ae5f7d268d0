"""Every codec: what is merged and cut again is what was sent, to the last character.

The backend of these tests answers with what it was asked about, read by another JSON reader that keeps
numbers as they were written. So the parts must hold each member's own rows, unchanged, or the call must
have been refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.batching.codecs import CODECS
from proxy.errors import MergeRefused, SplitMismatch
from tests.support.codec_forms import FORMS, Form, Members, dumps, members_of
from tests.support.literal_json import Literal, loads

if TYPE_CHECKING:
    from proxy.batching.codecs.base import Prepared


def prepared(form: Form, members: Members) -> tuple[list[bytes], list[Prepared]]:
    codec = CODECS[form.codec]
    bodies = [form.ask(rows).encode() for rows in members]
    return bodies, [codec.prepare(body, ()) for body in bodies]


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_everybody_gets_back_what_it_sent(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    bodies, found = prepared(form, data.draw(members_of(data.draw(form.rows))))
    assert len({one.key for one in found}) == 1
    assert [one.items for one in found] == [len(form.asked(loads(body))) for body in bodies]  # type: ignore[arg-type]
    codec = CODECS[form.codec]
    merged, _ = codec.merge(found)
    reply = dumps(form.echo(loads(merged))).encode()
    parts = codec.split((reply, ()), found)
    assert [form.answered(loads(part)) for part, _ in parts] == [form.asked(loads(body)) for body in bodies]


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
def test_an_answer_with_a_part_too_few_or_too_many_is_never_cut(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    _, found = prepared(form, data.draw(members_of(data.draw(form.rows))))
    codec = CODECS[form.codec]
    merged, _ = codec.merge(found)
    for wrong in (found[:-1], [*found, found[0]]):
        wrongly_merged, _ = codec.merge(wrong)
        reply = dumps(form.echo(loads(wrongly_merged))).encode()
        with pytest.raises(SplitMismatch):
            codec.split((reply, ()), found)
    assert codec.split((dumps(form.echo(loads(merged))).encode(), ()), found)


# What no reader should be led astray by: as a row, or put into a body at any place or instead of a part of it.
VALUES = (
    "NaN", '"\udcff"', "-Infinity", "-0.0", "1e400", "9007199254740993", "18446744073709551616", "1.10", '""', '"\\u0061\\""', "null",
    '"\\ud800"', "true", "[]", "[[]]", "[NaN]", "[1e400]", "[-0.0]", "[9007199254740993]", '["a","\\u00e9"]', '[["b"]]',
    "[" * 40 + "1" + "]" * 40, "[" * 2000 + "]" * 2000, '{"b64":"AA=="}', '{"a":1,"a":2}', '{"\\u0061":1.50}', "{}",
)  # fmt: skip
PIECES = (
    b"\xef\xbb\xbf", b"\xff", b"\0", b"\\", b"\\u0061", b'"', b"[", b"]", b"{", b"}", b",", b":", b" ", b"01", b"1.", b"+1",
    b'"a":1,', b'"instances":[7],', b'"inputs":[7],', b'"input":"x",', b'"params":{},', b'"\\u0069nputs":[7],',
)  # fmt: skip

edits = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3), st.sampled_from(PIECES)), max_size=2)
traps = st.lists(st.sampled_from(VALUES), min_size=0, max_size=2)


def edited(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, piece in changes:
        body = body[:at] + piece + body[at + length :]
    return body


def items_of(form: Form, body: bytes) -> object:
    """What `body` asks about, as a list: one text, a pair or token numbers without a list of their own are one."""
    asked = form.asked(loads(body))
    is_one = isinstance(asked, list) and (
        (form.codec in {"openai_embeddings", "tei_embed"} and isinstance(asked[0], Literal))
        or (form.codec == "tei_predict" and isinstance(asked[0], str))
    )
    return [asked] if is_one or isinstance(asked, str) else asked


def answers_of(form: Form, body: bytes, part: bytes) -> object:
    answered = form.answered(loads(part))
    is_bare = form.codec == "tei_predict" and form.asked(loads(body)) != items_of(form, body)
    return [answered] if is_bare else answered


def doubled(body: bytes) -> bytes:
    """An object with each of its fields twice."""
    return body[:-1] + b"," + body[1:] if body.startswith(b"{") else body


def trapped_body(form: Form, rows: list[str], data: st.DataObject) -> bytes:
    """A body of `form` with traps for rows, or one that is spoilt."""
    plain = st.just(form.ask(rows).encode())
    valued = st.builds(lambda found: form.ask(found).encode(errors="surrogateescape"), traps)
    return data.draw(valued | st.builds(edited, plain, edits) | plain.map(doubled))


# How many choices a prompt has is said by a field, which a trap may hit; reading is the same as for embeddings.
@pytest.mark.parametrize("name", [name for name in FORMS if name != "openai completions"])
@given(data=st.data())
def test_a_body_with_a_trap_is_refused_or_understood_and_harms_nobody(name: str, data: st.DataObject) -> None:
    form = FORMS[name]
    codec = CODECS[form.codec]
    rows = data.draw(members_of(data.draw(form.rows)))[0]
    bodies = [form.ask(rows).encode()] + 2 * [trapped_body(form, rows, data)]
    try:
        found = [codec.prepare(body, ()) for body in bodies]
    except MergeRefused:
        return
    for order in ((0, 1, 2), (1, 0, 2), (1, 2)):
        members = [found[index] for index in order]
        if members[0].key != members[1].key:
            continue
        reply = dumps(form.echo(loads(codec.merge(members)[0]))).encode()
        parts = codec.split((reply, ()), members)
        for index, (part, _) in zip(order, parts, strict=True):
            assert answers_of(form, bodies[index], part) == items_of(form, bodies[index])
