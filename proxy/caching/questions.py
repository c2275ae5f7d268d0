"""What a request asks, as keys: the verdict before anything is looked up.

Theory of operation ------------------- A request is either understood by its protocol's codec, or compared by
its whole body, or not looked up at all.

*Understood*: the codec proves its form for the sake of batching; the same proof says which bytes are the
input and which are the caller's own id. A request with several items becomes one question for each item where
the codec can cut requests and join answers; otherwise its items are one question together.

*Whole*: the codec refused, or the route has none. Then equal bytes are an equal question, the id in them
included, unless the input lies outside of the body (see `keys.body_refusal`).

*Remembered*: what is asked again is often asked in the very same bytes. Everything but the body and the
model's generation is a `Stem`; equal ones are one object. The last inquiries are found by stem, generation
and body, compared byte by byte, which saves the proof and the digest: half of a hit's cost. Two generations
of at most `_REMEMBERED` bodies of at most `_LONGEST_REMEMBERED` bytes, as the route table keeps its paths.
A connection that repeats its head to the byte finds its stem without the fields being read again (`note`,
`again`), for as long as route and policy are the same.

*Without its id*: where each request has an id of its own no body is ever repeated, but clients write the id
first. It is then cut off the beginning of the text, and the rest is what is understood and remembered, if
the codec understands it and no second ``"id"`` and no escape is in it: then putting any other plain string
there changes the caller's id and nothing else.

*Not looked up*: fields that make a request special (conditional, ranged, signed, an idempotency key, an
encoded body) are refused by the same rules that keep such requests out of batches. A refusal is a slug; the
call is then forwarded as if there were no cache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, runtime_checkable
from weakref import WeakValueDictionary

from proxy.caching.keys import Envelope, Question, body_refusal, item_keys, pack, whole_key
from proxy.errors import MergeRefused
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from proxy.caching.policy import CachePolicy
    from proxy.exchange import Call, Headers

    _Asked = tuple["Stem", bytes, bytes]  # with the generation and the body

__all__ = ("Codec", "Cutter", "Inquiry", "Interpreter", "Prepared", "Route", "Rules", "Stem", "Subject")

_MOST_ITEMS = 256  # looked up one by one; a digest and a lookup take 1.5 us each
_MOST_RULES = 256
_MOST_HEADS = 4096
_REMEMBERED = 512
_LONGEST_REMEMBERED = 4096
_BINARY = b"inference-header-content-length"  # where the JSON part ends: the body alone does not say
_BINARY_DATA = b'"binary_data'
_ID_FIRST: Final = re.compile(rb'\{ ?"id" ?: ?("[ !#-\[\]-~]{0,128}") ?, ?(?=")')
_MORE_IDS: Final = re.compile(rb'"id"|\\')
_PLAIN = Envelope()


class Route(Protocol):
    """What a request's route says of it."""

    @property
    def upstream(self) -> str:
        """Name of the upstream."""

    @property
    def protocol(self) -> str:
        """Name of its protocol."""

    @property
    def kind(self) -> str:
        """What the call is for: ``infer``, ``metadata``, ``control``, …"""


class Subject(Protocol):
    """What routing knows of a call."""

    @property
    def route(self) -> Route:
        """The route that took it."""

    @property
    def model(self) -> str:
        """The model it is for, "" when its path names none."""

    @property
    def version(self) -> str | None:
        """The version in its path."""

    @property
    def codec(self) -> str | None:
        """The codec of its protocol form."""


class Prepared(Protocol):
    """A request as its codec understood it."""

    key: Hashable
    items: int
    payload: tuple[bytes, ...]
    ident: bytes
    manner: bytes


class Codec(Protocol):
    """Understands the requests of one protocol form."""

    def prepare(self, body: bytes, headers: Headers) -> Prepared:
        """One request; raises `MergeRefused` when its form cannot be proved."""


@runtime_checkable
class Cutter(Codec, Protocol):
    """A codec that can take requests and answers apart by item, and put them together.

    What it is given is what it made itself, hence `Any`.
    """

    def cut(self, prepared: Any) -> Sequence[Prepared]:  # noqa: ANN401  see above
        """One request for each item, without an id; none when they stay together."""

    def merge(self, members: Sequence[Any]) -> tuple[bytes, Headers]:
        """One request for all."""

    def split(self, answer: tuple[bytes, Headers], members: Sequence[Any]) -> list[tuple[bytes, Headers]]:
        """One answer for each of `members`; raises `SplitMismatch`."""

    def join(self, answers: Sequence[bytes]) -> bytes:
        """One answer, without an id, from answers to one item each; raises `SplitMismatch`."""


class Rules(Protocol):
    """Which request fields matter."""

    def key(self, headers: Headers) -> Headers:
        """The fields that must be equal, in a canonical order; raises `MergeRefused` for a special
        request."""


class Stem:
    """Everything about a request that its body does not say; there is one for each, so its identity stands
    for it.

    `fields` are those that matter by `rules`, `json_length` says where a body's JSON part ends, `envelope`
    how answers echo the caller's id.
    """

    __slots__ = (
        "__weakref__",
        "envelope",
        "fields",
        "is_divisible",
        "json_length",
        "method",
        "rules",
        "scheme",
        "subject",
        "target",
    )

    def __init__(
        self, call: Call, subject: Subject, policy: CachePolicy, rules: Rules, envelope: Envelope
    ) -> None:
        self.subject = subject
        self.envelope = envelope
        self.rules = rules
        self.is_divisible = policy.items
        self.method = call.method
        self.scheme = call.scheme
        self.target = call.target
        # The key that this proxy asked for is not sent on; its holders are told apart all the same.
        shown = ((b"authorization", call.identity),) if call.identity else ()
        self.fields = rules.key(call.headers + shown)
        self.json_length = field(call.headers, _BINARY)

    @property
    def parts(self) -> tuple[object, ...]:
        """What makes two stems equal."""
        return (
            self.subject,
            self.rules,
            self.is_divisible,
            self.method,
            self.scheme,
            self.target,
            self.fields,
            self.json_length,
        )


class Inquiry:
    """One request's questions.

    `keys` has one entry, or one for each of `items` (a cutter's requests of one item). `ident` is the
    caller's id as JSON text, or empty; `takes_id` says that any other would leave the keys as they are."""

    __slots__ = ("cutter", "ident", "items", "keys", "prepared", "stem", "takes_id")

    def __init__(
        self,
        keys: list[bytes],
        stem: Stem,
        prepared: Prepared | None = None,
        items: Sequence[Prepared] = (),
        cutter: Cutter | None = None,
    ) -> None:
        self.keys = keys
        self.stem = stem
        self.prepared = prepared
        self.ident = b"" if prepared is None else prepared.ident
        self.items = items
        self.cutter = cutter
        self.takes_id = False

    @property
    def envelope(self) -> Envelope:
        """How the answers echo the caller's id."""
        return _PLAIN if self.prepared is None else self.stem.envelope

    def asked_by(self, ident: bytes) -> Inquiry:
        """The same questions of a caller with another id."""
        other = Inquiry(self.keys, self.stem, self.prepared, self.items, self.cutter)
        other.ident = ident
        return other

    def is_keyed(self, name: bytes) -> bool:
        """Whether requests that differ in the field `name` (lower case) have different keys."""
        try:
            return bool(self.stem.rules.key(((name, b"?"),)))
        except MergeRefused:
            return True  # a request that has it is never looked up


class _Noted(NamedTuple):
    """What was found out about a head, and by what rules: it holds while they are the same."""

    subject: Subject
    policy: CachePolicy
    stem: Stem


class Interpreter:
    """Turns requests into inquiries. `rules` makes the field rules of one ``ignore`` list.

    `id_fields` names, by codec, the top-level field of an answer that echoes the caller's id.
    """

    __slots__ = (
        "_codecs",
        "_cutters",
        "_envelopes",
        "_heads",
        "_make_rules",
        "_old",
        "_rules",
        "_stems",
        "_young",
    )

    def __init__(
        self,
        rules: Callable[[Sequence[str]], Rules],
        codecs: Mapping[str, Codec],
        id_fields: Mapping[str, str],
    ) -> None:
        self._make_rules = rules
        self._codecs = codecs
        self._cutters = {name: codec for name, codec in codecs.items() if isinstance(codec, Cutter)}
        self._envelopes = {name: Envelope(field) for name, field in id_fields.items()}
        self._rules: dict[tuple[str, ...], Rules] = {}
        self._stems: WeakValueDictionary[tuple[object, ...], Stem] = WeakValueDictionary()
        self._heads: dict[object, _Noted] = {}
        self._young: dict[_Asked, Inquiry] = {}
        self._old: dict[_Asked, Inquiry] = {}

    def read(
        self, call: Call, body: bytes, subject: Subject, policy: CachePolicy, generation: bytes
    ) -> Inquiry:
        """The questions of `call`, whose body is `body`; raises `MergeRefused` when there are none."""
        rules = self._rules.get(policy.ignore) or self._learn(policy.ignore)
        stem = Stem(call, subject, policy, rules, self._envelopes.get(subject.codec or "", _PLAIN))
        stem = self._stems.setdefault(stem.parts, stem)
        bare, ident = _without_id(stem, body)
        if ident:
            inquiry = self._of_body((stem, generation, bare), call)
            if inquiry.takes_id:
                return inquiry.asked_by(ident)
        return self._of_body((stem, generation, body), call)

    def note(self, call: Call, subject: Subject, policy: CachePolicy, inquiry: Inquiry) -> None:
        """The head of `call` says nothing but what is in the keys of its `inquiry`."""
        if call.head is not None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[call.head] = _Noted(subject, policy, inquiry.stem)

    def again(
        self, call: Call, body: bytes, subject: Subject, policy: CachePolicy, generation: bytes
    ) -> Inquiry | None:
        """The questions of a request in whose head nothing else is said, if the same was asked lately."""
        noted = self._heads.get(call.head)
        if noted is None or noted.subject is not subject or noted.policy is not policy:
            return None
        bare, ident = _without_id(noted.stem, body)
        inquiry = self._young.get((noted.stem, generation, bare))
        if inquiry is None or not ident:
            return inquiry
        return inquiry.asked_by(ident) if inquiry.takes_id else None

    def _of_body(self, asked: _Asked, call: Call) -> Inquiry:
        """The inquiry of a body under a stem, remembered or understood now."""
        inquiry = self._young.get(asked)
        if inquiry is None:
            inquiry = self._old.get(asked) or self._understand(asked, call)
            if len(asked[2]) <= _LONGEST_REMEMBERED:
                if len(self._young) >= _REMEMBERED:
                    self._old, self._young = self._young, {}
                self._young[asked] = inquiry
        return inquiry

    def _understand(self, asked: _Asked, call: Call) -> Inquiry:
        stem, generation, body = asked
        subject = stem.subject
        route = subject.route
        question = Question(route.upstream, route.protocol, subject.model, subject.version, generation)
        codec = self._codecs.get(subject.codec or "")
        if stem.json_length is not None or _BINARY_DATA in body:
            raise MergeRefused("binary_tensors")  # what follows such a head is no text to put an id into
        if codec is not None:
            try:
                prepared = codec.prepare(body, call.headers)
            except MergeRefused:
                pass
            else:
                form = (prepared.key, prepared.manner) if prepared.manner else prepared.key
                packed = _packed(question, call, stem.fields, form)
                inquiry = self._proved(packed, prepared, stem)
                inquiry.takes_id = not prepared.ident and _MORE_IDS.search(body) is None
                return inquiry
        why = body_refusal(body)
        if why is not None:
            raise MergeRefused(why)
        return Inquiry([whole_key(_packed(question, call, stem.fields, None), body)], stem)

    def _proved(self, packed: bytes, prepared: Prepared, stem: Stem) -> Inquiry:
        """The questions of a request that its codec understood."""
        if prepared.items == 1:
            return Inquiry(item_keys(packed, [prepared.payload]), stem, prepared)
        cutter = self._cutters.get(stem.subject.codec or "")
        is_divisible = cutter is not None and stem.is_divisible and prepared.items <= _MOST_ITEMS
        items = cutter.cut(prepared) if cutter is not None and is_divisible else ()
        if not items:
            together = (b"%d" % prepared.items, *prepared.payload)
            return Inquiry(item_keys(packed, [together]), stem, prepared)
        return Inquiry(item_keys(packed, [item.payload for item in items]), stem, prepared, items, cutter)

    def _learn(self, ignore: tuple[str, ...]) -> Rules:
        if len(self._rules) >= _MOST_RULES:  # reloads leave old lists behind
            self._rules.clear()
        rules = self._rules[ignore] = self._make_rules(ignore)
        return rules


def _packed(question: Question, call: Call, fields: Headers, form: Hashable) -> bytes:
    try:
        return pack(question, call, fields, form)
    except TypeError:
        raise MergeRefused("form") from None


def _without_id(stem: Stem, body: bytes) -> tuple[bytes, bytes]:
    """`body` without the id that it begins with, and that id as JSON text; `body` itself and nothing where
    there is none to be echoed."""
    if stem.envelope is _PLAIN:
        return body, b""
    match = _ID_FIRST.match(body)
    return (body, b"") if match is None else (b"{" + body[match.end() :], match[1])
