"""What a request asks, as keys: the verdict before anything is looked up.

Theory of operation ------------------- A request is either understood by its protocol's codec, or compared by
its whole body, or not looked up at all.

*Understood*: the codec proves its form for the sake of batching; the same proof says which bytes are the
input and which are the caller's own id. A request with several items becomes one question for each item where
the codec can cut requests and join answers; otherwise its items are one question together.

*Whole*: the codec refused, or the route has none. Then equal bytes are an equal question, the id in them
included, unless the input lies outside of the body (see `keys.body_refusal`).

*Remembered*: what is asked again is often asked in the very same bytes. The last inquiries are found by
everything that went into them, compared byte by byte, which saves the proof and the digest: half of a hit's
cost. Two generations of at most `_REMEMBERED` bodies of at most `_LONGEST_REMEMBERED` bytes, as the route
table keeps its paths.

*Not looked up*: fields that make a request special (conditional, ranged, signed, an idempotency key, an
encoded body) are refused by the same rules that keep such requests out of batches. A refusal is a slug; the
call is then forwarded as if there were no cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from proxy.caching.keys import Envelope, Question, body_refusal, item_keys, pack, whole_key
from proxy.errors import MergeRefused
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from proxy.caching.policy import CachePolicy
    from proxy.exchange import Call, Headers

__all__ = ("Codec", "Cutter", "Inquiry", "Interpreter", "Prepared", "Route", "Rules", "Subject")

_MOST_ITEMS = 256  # looked up one by one; a digest and a lookup take 1.5 us each
_MOST_RULES = 256
_REMEMBERED = 512
_LONGEST_REMEMBERED = 4096
_BINARY = b"inference-header-content-length"  # where the JSON part ends: the body alone does not say
_BINARY_DATA = b'"binary_data'
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


class Inquiry:
    """One request's questions.

    `keys` has one entry, or one for each of `items` (a cutter's requests of one item). `ident` is the
    caller's id as JSON text, or empty; `envelope` knows where it goes. `rules` tell fields that are in the
    keys."""

    __slots__ = ("cutter", "envelope", "ident", "items", "keys", "prepared", "rules")

    def __init__(
        self,
        keys: list[bytes],
        rules: Rules,
        envelope: Envelope = _PLAIN,
        prepared: Prepared | None = None,
        items: Sequence[Prepared] = (),
    ) -> None:
        self.keys = keys
        self.rules = rules
        self.envelope = envelope
        self.prepared = prepared
        self.ident = b"" if prepared is None else prepared.ident
        self.items = items
        self.cutter: Cutter | None = None

    def is_keyed(self, name: bytes) -> bool:
        """Whether requests that differ in the field `name` (lower case) have different keys."""
        try:
            return bool(self.rules.key(((name, b"?"),)))
        except MergeRefused:
            return True  # a request that has it is never looked up


class _Asked(NamedTuple):
    """Everything that goes into an inquiry; `json_length` says where a body's JSON part ends."""

    subject: Subject
    generation: bytes
    items: bool
    ignore: tuple[str, ...]
    method: bytes
    scheme: bytes
    target: bytes
    fields: Headers
    json_length: bytes | None
    body: bytes


class Interpreter:
    """Turns requests into inquiries. `rules` makes the field rules of one ``ignore`` list.

    `id_fields` names, by codec, the top-level field of an answer that echoes the caller's id.
    """

    __slots__ = ("_codecs", "_cutters", "_envelopes", "_make_rules", "_old", "_rules", "_young")

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
        self._young: dict[_Asked, Inquiry] = {}
        self._old: dict[_Asked, Inquiry] = {}

    def read(
        self, call: Call, body: bytes, subject: Subject, policy: CachePolicy, generation: bytes
    ) -> Inquiry:
        """The questions of `call`, whose body is `body`; raises `MergeRefused` when there are none."""
        rules = self._rules.get(policy.ignore) or self._learn(policy.ignore)
        asked = _Asked(
            subject,
            generation,
            policy.items,
            policy.ignore,
            call.method,
            call.scheme,
            call.target,
            rules.key(call.headers),
            field(call.headers, _BINARY),
            body,
        )
        inquiry = self._young.get(asked)
        if inquiry is None:
            inquiry = self._old.get(asked) or self._understand(asked, call, rules)
            if len(body) <= _LONGEST_REMEMBERED:
                self._remember(asked, inquiry)
        return inquiry

    def _remember(self, asked: _Asked, inquiry: Inquiry) -> None:
        if len(self._young) >= _REMEMBERED:
            self._old, self._young = self._young, {}
        self._young[asked] = inquiry

    def _understand(self, asked: _Asked, call: Call, rules: Rules) -> Inquiry:
        subject, body = asked.subject, asked.body
        route = subject.route
        question = Question(route.upstream, route.protocol, subject.model, subject.version, asked.generation)
        codec = self._codecs.get(subject.codec or "")
        if asked.json_length is not None or _BINARY_DATA in body:
            raise MergeRefused("binary_tensors")  # what follows such a head is no text to put an id into
        if codec is not None:
            try:
                prepared = codec.prepare(body, call.headers)
            except MergeRefused:
                pass
            else:
                packed = _packed(question, call, asked.fields, prepared.key)
                return self._proved(packed, prepared, asked, rules)
        why = body_refusal(body)
        if why is not None:
            raise MergeRefused(why)
        return Inquiry([whole_key(_packed(question, call, asked.fields, None), body)], rules)

    def _proved(self, packed: bytes, prepared: Prepared, asked: _Asked, rules: Rules) -> Inquiry:
        """The questions of a request that its codec understood."""
        name = asked.subject.codec or ""
        envelope, cutter = self._envelopes.get(name, _PLAIN), self._cutters.get(name)
        if prepared.items == 1:
            return Inquiry(item_keys(packed, [prepared.payload]), rules, envelope, prepared)
        is_divisible = cutter is not None and asked.items and prepared.items <= _MOST_ITEMS
        items = cutter.cut(prepared) if cutter is not None and is_divisible else ()
        if not items:
            together = (b"%d" % prepared.items, *prepared.payload)
            return Inquiry(item_keys(packed, [together]), rules, envelope, prepared)
        keys = item_keys(packed, [item.payload for item in items])
        inquiry = Inquiry(keys, rules, envelope, prepared, items)
        inquiry.cutter = cutter
        return inquiry

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
