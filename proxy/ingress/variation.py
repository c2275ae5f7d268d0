"""Heads that differ from a judged one only where that changes nothing about the judgement (pure).

Theory of operation
-------------------
A client that keeps its connection sends the same head again and again, but for what must differ: the id of
the request and its span, a cookie, a length, a query. To judge each such head anew costs many times what
it costs to see that it is the same.

So the lines of a judged head are kept, and for each of them what may stand there instead: nothing else
(`Host`, `Connection`, `Transfer-Encoding`: they decide where a message ends and whom it is for), or any value
that the grammar allows (a field that goes on as it came), or any valid length, target, request id, span. A
head with the same number of lines, in which each line that differs is open and holds a value of its kind, is
the same head with these values put in. Everything else, and every doubt, is for `proxy.ingress.head`, which
finds the same or says what is wrong.

At first the lines are compared one by one, and those that differ are noted. When enough heads were found
that way, all of it becomes one expression: the text of the lines that never differ, and between them the
grammar of the values of those that do. To make it costs as much as a dozen requests, which is why nobody gets
one with the second; to find a head by it costs little more than to see that nothing differs at all.

A line ends where the head was split, at CRLF; a lone CR or LF within a line that differs fails the grammar of
its value, and a line that does not differ was judged before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import BodyTooLarge, ProxyError, TargetTooLong
from proxy.ingress.rules import ORDINARY

if TYPE_CHECKING:
    from proxy.ingress.head import Head
    from proxy.ingress.rules import HeadRules

__all__ = ("Pattern",)

_LONGEST: Final = 2048  # a longer head is not worth remembering for each idle connection
_PROVEN: Final = 64  # heads found line by line, before they are worth an expression

Take = Callable[["Pattern", bytes], None]
"""Notes what a value means; raises `ProxyError` when it may not stand there after all."""

_Meaning = tuple[bytes, int, Take | None]
"""`name`, `at` and `take` of an opening."""


class _Opening(NamedTuple):
    """One line that may differ: it begins with `prefix` and goes on as `grammar` says, whose one group is the
    value. `at` is the place of the field `name` among those that go on (-1: none), `take` is for a value that
    means something here."""

    prefix: bytes
    grammar: re.Pattern[bytes]
    name: bytes
    at: int
    take: Take | None


class Pattern:
    """The judged `head` of `block` (its empty line included) and what it leaves open.

    Once `read` has found another head, `target`, `headers`, `length`, `request_id` and `trace` are that
    one's, as `Head` tells them; all else is as in `head`.
    """

    __slots__ = (
        "_differing",
        "_expression",
        "_fields",
        "_found",
        "_lines",
        "_longest",
        "_meanings",
        "_openings",
        "_values",
        "head",
        "headers",
        "length",
        "request_id",
        "target",
        "trace",
    )

    def __init__(self, head: Head, block: bytes, rules: HeadRules) -> None:
        self.head = head
        self._longest = min(_LONGEST, rules.limits.header_line)  # of a shorter block no line is too long
        self._lines = block[:-4].split(b"\r\n")
        self._openings = [_target(head, self._lines[0], rules), *_openings(head, self._lines[1:], rules)]
        self._differing: set[int] = set()  # indexes of lines that were seen to
        self._found = 0  # heads, since one differed in a line that had not before
        self._expression: re.Pattern[bytes] | None = None
        self._meanings: list[_Meaning] = []  # of the expression's groups
        self._values: tuple[bytes, ...] = ()  # of the last head
        # Each head that is found sets anew whatever one before it has set.
        self._fields = list(head.headers)
        self.target = head.target
        self.headers = head.headers
        self.length = head.length
        self.request_id = head.request_id
        self.trace = head.trace

    def read(self, data: bytes) -> int:
        """Where the head at the beginning of `data` ends; 0 when it has to be judged by itself, -1 when it is
        worth that, being the same as the one before."""
        expression = self._expression
        match = expression.match(data, 0, self._longest) if expression is not None else None
        try:
            if match is None:
                return self._compare(data)
            return match.end() if self._take(self._meanings, match.groups()) else -1
        except ProxyError:
            return 0

    def _take(self, meanings: list[_Meaning], values: tuple[bytes, ...]) -> bool:
        """Put the values in; False when they are those of the last head."""
        if values == self._values:
            return False
        fields = self._fields
        for index, (name, at, take) in enumerate(meanings):  # a compiled `zip` costs as much as the rest
            value = values[index]
            if at >= 0:
                fields[at] = name, value
            if take is not None:
                take(self, value)
        self.headers = tuple(fields)
        self._values = values
        return True

    def _compare(self, data: bytes) -> int:
        """`read`, line by line."""
        end = data.find(b"\r\n\r\n", 0, self._longest)
        lines = data[: max(0, end)].split(b"\r\n")
        if len(lines) != len(self._lines):
            return 0
        differing = {index for index, line in enumerate(lines) if line != self._lines[index]}
        if not differing <= self._differing:
            differing |= self._differing
            self._found, self._expression = 0, None
        else:
            differing = self._differing
        meanings, values = list[_Meaning](), list[bytes]()
        for index in sorted(differing):
            opening, line = self._openings[index], lines[index]
            if opening is None or not line.startswith(opening.prefix):
                return 0
            match = opening.grammar.fullmatch(line, len(opening.prefix))
            if match is None:
                return 0
            meanings.append(opening[2:])
            values.append(match[1])
        is_new = self._take(meanings, tuple(values))
        self._differing = differing
        self._found += 1
        if self._found >= _PROVEN and self._expression is None:
            self._expression, self._meanings = self._express(), meanings
        return end + 4 if is_new else -1

    def _express(self) -> re.Pattern[bytes]:
        """The lines as one expression; `re` sees to it that equal ones of several connections are one."""
        parts = []
        for index, line in enumerate(self._lines):
            opening = self._openings[index] if index in self._differing else None
            parts.append(
                re.escape(line) if opening is None else re.escape(opening.prefix) + opening.grammar.pattern
            )
        return re.compile(rb"\r\n".join(parts) + rb"\r\n\r\n")


def _target(head: Head, line: bytes, rules: HeadRules) -> _Opening | None:
    """What may stand in place of the request line: another target in origin form."""
    start, grammar = head.method + b" ", _TARGETS[head.http_version]
    most, check = rules.limits.target, rules.check_target
    if not line.startswith(start) or grammar.fullmatch(line, len(start)) is None:
        return None

    def take(found: Pattern, target: bytes) -> None:
        if len(target) > most:
            raise TargetTooLong
        check(target)
        found.target = target

    return _Opening(start, grammar, b"", -1, take)


def _openings(head: Head, lines: list[bytes], rules: HeadRules) -> list[_Opening | None]:
    """What may stand in place of each field line; None: nothing else."""
    openings: list[_Opening | None] = []
    at = 0
    is_upgradable = any(line[:8].lower() == b"upgrade:" for line in lines)
    for line in lines:
        name, _, value = line.partition(b":")
        goes_on = at < len(head.headers) and head.headers[at] == (name, value.strip(b" \t"))
        place = rules.places.get(name)  # None: forgotten
        opening = None
        if goes_on and (place in _KEPT or (place == b"authorization" and not rules.keys)):
            grammar, take = _KEPT.get(place, _KEPT[ORDINARY])
            opening = _Opening(name + b":", grammar, name, at, take)
        elif place == b"content-length" and not is_upgradable:  # without a body it would be an upgrade
            opening = _length(name, rules.limits.body)
        elif place == b"traceparent" and head.trace is not None:  # a valid one would keep more than itself
            opening = _Opening(name + b":", _TRACE, name, -1, _take_trace)
        openings.append(opening)
        at += goes_on
    return openings


def _length(name: bytes, most: int) -> _Opening:
    def take(found: Pattern, value: bytes) -> None:
        found.length = length = int(value)
        if length > most:
            raise BodyTooLarge

    return _Opening(name + b":", _LENGTH, name, -1, take)


def _take_request_id(found: Pattern, value: bytes) -> None:
    found.request_id = value


def _take_trace(found: Pattern, value: bytes) -> None:
    found.trace = value[:36], value[52:]


# Without the white space around it: a run of visible characters, or several with white space between.
_VALUE: Final = re.compile(rb"[ \t]*+((?:[!-~\x80-\xff]++|[ \t]++(?=[!-~\x80-\xff]))*+)[ \t]*+")
_ID: Final = re.compile(rb"[ \t]*+([A-Za-z0-9._-]{1,128}+)[ \t]*+")
_LENGTH: Final = re.compile(rb"[ \t]*+([0-9]{1,18}+)[ \t]*+")
_TRACE: Final = re.compile(rb"[ \t]*+(00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})[ \t]*+")
_TARGETS: Final = {
    version: re.compile(rb"(/[!\"$-~\x80-\xff]*+) HTTP/1\.%d" % (version - 10)) for version in (10, 11)
}
_KEPT: Final[dict[bytes | None, tuple[re.Pattern[bytes], Take | None]]] = {
    ORDINARY: (_VALUE, None),
    b"x-request-id": (_ID, _take_request_id),
}
"""Fields that go on."""
