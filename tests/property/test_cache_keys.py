"""No two requests that differ in anything but the caller's id share a key; those that differ in it alone do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.batching.codecs import CODECS
from proxy.caching.questions import Inquiry, Interpreter
from proxy.errors import MergeRefused
from proxy.exchange import Call
from proxy.routing.policy import Route
from proxy.routing.table import Match
from tests.support.caching import field_rules, policy

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

NUMBERS = st.sampled_from([0, 1, -1, 12, 1.0, 0.5, 1e300, 2.5])
NAMES = st.sampled_from(["x", "y", 'x"', "é", ""])
PARAMETERS = st.dictionaries(
    st.sampled_from(["a", "b", "timeout"]), st.sampled_from([0, 1, "1", True, None]), max_size=2
)
IDENTS = st.text(max_size=4)
FIELDS = st.dictionaries(
    st.sampled_from([b"Authorization", b"Accept", b"X-Tenant", b"Cookie"]),
    st.sampled_from([b"", b"1", b"2"]),
    max_size=2,
)


@st.composite
def tensors(draw: DrawFn, rows: int) -> dict[str, Any]:
    width = draw(st.integers(1, 2))
    data = draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=rows, max_size=rows))
    is_nested = draw(st.booleans())
    tensor: dict[str, Any] = {
        "name": draw(NAMES),
        "shape": [rows, width],
        "datatype": draw(st.sampled_from(["FP32", "INT64"])),
        "data": data if is_nested else [number for row in data for number in row],
    }
    parameters = draw(st.none() | PARAMETERS)
    return tensor if parameters is None else tensor | {"parameters": parameters}


@st.composite
def v2_documents(draw: DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(1, 2))
    document: dict[str, Any] = {"inputs": draw(st.lists(tensors(rows), min_size=1, max_size=2))}
    if draw(st.booleans()):
        document["parameters"] = draw(PARAMETERS)
    if draw(st.booleans()):
        document["outputs"] = draw(st.lists(st.fixed_dictionaries({"name": NAMES}), max_size=2))
    return document


@st.composite
def v1_documents(draw: DrawFn) -> dict[str, Any]:
    instances = draw(st.lists(st.lists(NUMBERS, min_size=1, max_size=2), min_size=1, max_size=3))
    document: dict[str, Any] = {"instances": instances}
    if draw(st.booleans()):
        document["signature_name"] = draw(NAMES)
    return document


_DOCUMENT = 5
Asked = tuple[str, str, str | None, bytes, dict[bytes, bytes], dict[str, Any], bytes]


def requests(form: str) -> SearchStrategy[Asked]:
    """Everything about a request that may change its answer."""
    return st.tuples(
        st.just(form),
        st.sampled_from(["m", "n"]),
        st.sampled_from([None, "1", "2"]),
        st.sampled_from([b"", b"?a=1", b"?a=2"]),
        FIELDS,
        v1_documents() if form == "kserve_v1" else v2_documents(),
        st.sampled_from([b"", b"generation"]),
    )


def inquiry(asked: Asked, interpreter: Interpreter, ident: str | None = None) -> Inquiry:
    form, model, version, query, fields, document, generation = asked
    body = msgspec.json.encode(document if ident is None else {"id": ident, **document})
    target = b"/%s/%s/%s" % (form.encode(), model.encode(), (version or "").encode()) + query
    headers = tuple(sorted(fields.items()))
    match = Match(Route("r", "u", form, "infer", (), form), model, version)
    return interpreter.read(Call(b"POST", target, headers, body), body, match, policy(), generation)


def an_interpreter() -> Interpreter:
    return Interpreter(field_rules, CODECS, {"open_inference": "id"})


def items_of(asked: Asked) -> list[Asked]:
    """The request cut into requests of one item, by the book and not by the codec."""
    form, *rest, document, generation = asked
    if form == "kserve_v1":
        cut = [document | {"instances": [instance]} for instance in document["instances"]]
    else:
        rows = document["inputs"][0]["shape"][0]
        cut = [
            document | {"inputs": [_row(tensor, row) for tensor in document["inputs"]]} for row in range(rows)
        ]
    return [(form, *rest, part, generation) for part in cut]  # type: ignore[misc]  # the same tuple again


def _row(tensor: dict[str, Any], row: int) -> dict[str, Any]:
    width, data = tensor["shape"][1], tensor["data"]
    part = [data[row]] if isinstance(data[0], list) else data[row * width : (row + 1) * width]
    return tensor | {"shape": [1, width], "data": part}


def spelt(asked: Asked) -> bytes:
    """The request as it would be written, the number 1 apart from 1.0 and from true, keys in their order."""
    form, model, version, query, fields, document, generation = asked
    document = dict(sorted(document.items()))  # the order of top-level keys is not part of the question
    return repr((form, model, version, query, sorted(fields.items()), document, generation)).encode()


FORMS = st.sampled_from(["kserve_v1", "open_inference"])
REQUESTS = FORMS.flatmap(requests)
PAIRS = FORMS.flatmap(lambda form: st.tuples(requests(form), requests(form)))


@given(PAIRS, st.booleans())
def test_different_questions_have_different_keys(pair: tuple[Asked, Asked], is_shared: bool) -> None:
    one, other = pair
    interpreter = an_interpreter()
    try:
        mine = inquiry(one, interpreter)
        theirs = inquiry(other, interpreter if is_shared else an_interpreter())
    except MergeRefused:
        assume(condition=False)
    for my_key, my_item in zip(mine.keys, _parts(one, mine), strict=True):
        for their_key, their_item in zip(theirs.keys, _parts(other, theirs), strict=True):
            if spelt(my_item) != spelt(their_item):
                assert my_key != their_key


def _parts(asked: Asked, found: Inquiry) -> list[Asked]:
    return items_of(asked) if len(found.keys) > 1 else [asked]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401  JSON
    """The places of a document at which a plain value stands, shapes apart: they go with the data."""
    if isinstance(value, dict):
        return [leaf for key in value if key != "shape" for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [path]


def with_leaf(value: Any, path: tuple[Any, ...], leaf: object) -> Any:  # noqa: ANN401  JSON
    """The document with another value in one place."""
    if not path:
        return leaf
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = with_leaf(value[path[0]], path[1:], leaf)
    return changed


@given(REQUESTS, st.data())
def test_one_changed_value_is_another_question(asked: Asked, data: st.DataObject) -> None:
    document = asked[_DOCUMENT]
    path = data.draw(st.sampled_from(leaves(document)))
    leaf = data.draw(
        NUMBERS if isinstance(path[-1], int) else st.sampled_from([*"xy", "FP32", "INT64", 0, 1, True])
    )
    changed: Any = (*asked[:_DOCUMENT], with_leaf(document, path, leaf), *asked[_DOCUMENT + 1 :])
    assume(spelt(asked) != spelt(changed))
    interpreter = an_interpreter()
    try:
        mine, theirs = inquiry(asked, interpreter), inquiry(changed, interpreter)
    except MergeRefused:
        assume(condition=False)
    assert mine.keys != theirs.keys


@given(PAIRS, st.integers(1, 6))
def test_the_same_body_asked_otherwise_is_another_question(pair: tuple[Asked, Asked], place: int) -> None:
    one, other = pair
    assume(place != _DOCUMENT)
    changed: Any = (*one[:place], other[place], *one[place + 1 :])
    assume(spelt(one) != spelt(changed))
    interpreter = an_interpreter()
    try:
        mine, theirs = inquiry(one, interpreter), inquiry(changed, interpreter)
    except MergeRefused:
        assume(condition=False)
    assert not set(mine.keys) & set(theirs.keys)


@given(requests("open_inference"), st.none() | IDENTS, st.none() | IDENTS)
def test_the_id_is_no_part_of_the_question(asked: Asked, one: str | None, other: str | None) -> None:
    try:
        mine, theirs = (inquiry(asked, an_interpreter(), ident) for ident in (one, other))
    except MergeRefused:
        assume(condition=False)
    assume(mine.prepared is not None)
    assert mine.keys == theirs.keys
    assert mine.ident == (b"" if one is None else msgspec.json.encode(one))


@given(REQUESTS)
def test_an_item_is_the_same_question_alone_unless_company_changes_its_type(asked: Asked) -> None:
    try:
        together = inquiry(asked, an_interpreter())
        alone = [inquiry(item, an_interpreter()) for item in items_of(asked)]
    except MergeRefused:
        assume(condition=False)
    assume(len(together.keys) > 1)
    assert together.prepared is not None
    for key, item in zip(together.keys, alone, strict=True):
        if item.prepared is not None and item.prepared.key == together.prepared.key:
            assert item.keys == [key]
        else:
            assert item.keys != [key]


# ------------------------------------------------------------- what is remembered
PIECES = [
    b'"id":"a"',
    b'"id" : "b"',
    b'"id":""',
    b'"id":7',
    b'"id":"\\u0041"',
    b'"i\\u0064":"a"',
    b'"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]',
    b'"inputs":[{"name":"x","shape":[2,1],"datatype":"FP32","data":[1,2]}]',
    b'"inputs":[{"name":"id","shape":[1,1],"datatype":"BYTES","data":["id"]}]',
    b'"parameters":{"id":"a"}',
    b'"parameters":{"a":"}"}',
    b'"outputs":[]',
    b'"',
    b"{",
    b"",
]


@st.composite
def hostile_bodies(draw: DrawFn) -> bytes:
    """Bodies that are documents or nearly so, ids in all places."""
    joint = draw(st.sampled_from([b",", b", ", b" ,"]))
    opening, closing = draw(st.sampled_from([(b"{", b"}"), (b"{ ", b" }"), (b"", b"}"), (b"{", b"")]))
    pieces = draw(st.lists(st.sampled_from(PIECES), max_size=4))
    return opening + joint.join(pieces) + closing


def outcome_of(interpreter: Interpreter, body: bytes, head: object = None) -> tuple[list[bytes], bytes] | str:
    call = Call(b"POST", b"/v2/models/m/infer", (), body)
    call.head = head
    try:
        found = interpreter.read(call, body, SUBJECT, POLICY, b"")
    except MergeRefused as refusal:
        return refusal.why
    interpreter.note(call, SUBJECT, POLICY, found)
    return found.keys, found.ident


SUBJECT = Match(Route("r", "u", "open-inference", "infer", (), "open_inference"), "m")
POLICY = policy()


@given(st.lists(hostile_bodies(), min_size=1, max_size=8))
def test_what_was_understood_before_changes_nothing(bodies: list[bytes]) -> None:
    experienced, head = an_interpreter(), object()
    for body in bodies:
        fresh = Interpreter(field_rules, CODECS, {})  # echoes no id, so it cuts none off
        expected = outcome_of(fresh, body)
        assert outcome_of(experienced, body, head) == expected
        call = Call(b"POST", b"/v2/models/m/infer", (), body)
        call.head = head
        again = experienced.again(call, body, SUBJECT, POLICY, b"")
        if again is not None:
            assert (again.keys, again.ident) == expected


@given(PAIRS)
def test_a_repeated_head_is_held_to_everything_else(pair: tuple[Asked, Asked]) -> None:
    one = pair[0]
    interpreter, head = an_interpreter(), object()
    body, their_body = (msgspec.json.encode(asked[_DOCUMENT]) for asked in pair)
    match = Match(Route("r", "u", one[0], "infer", (), one[0]), one[1], one[2])
    call = Call(b"POST", b"/p", (), body)
    call.head = head
    try:
        found = interpreter.read(call, body, match, POLICY, one[-1])
    except MergeRefused:
        assume(condition=False)
    interpreter.note(call, match, POLICY, found)
    assert interpreter.again(call, body, match, POLICY, one[-1]) is found
    assert interpreter.again(call, body, Match(match.route, one[1], one[2]), POLICY, one[-1]) is None
    assert interpreter.again(call, body, match, policy(ttl=1.0), one[-1]) is None
    assert interpreter.again(call, body, match, POLICY, b"another") is None
    if body != their_body:
        assert interpreter.again(call, their_body, match, POLICY, one[-1]) is None
