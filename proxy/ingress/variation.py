"""Heads that differ from a judged one only where that changes nothing about the judgement (pure).

Theory of operation
-------------------
A client that keeps its connection sends the same head again and again, but for what must differ: the id of
the request and its span, a cookie, a length, a query. To judge each such head anew costs fifteen times what
it costs to see that it is the same.

So the lines of a judged head are kept, and for each of them what may stand there instead: nothing else
(`Host`, `Connection`, `Transfer-Encoding`: they decide where a message ends and whom it is for), or any value
that the grammar allows (a field that goes on as it came), or any valid length, target, request id, span. A
head with the same number of lines, in which each line that differs is open and holds a value of its kind, is
the same head with these values put in. Everything else, and every doubt, is for `proxy.ingress.head`, which
finds the same or says what is wrong.

A line ends where the head was split, at CRLF; a lone CR or LF within a line that differs fails the grammar of
its value, and a line that does not differ was judged before.
"""

from __future__ import annotations

from itertools import compress
from operator import ne
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import ProxyError
from proxy.ingress.forwarding import is_request_id, trace_of
from proxy.ingress.grammar import read_request_line
from proxy.ingress.head import read_length
from proxy.ingress.rules import ORDINARY

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.ingress.head import Head
    from proxy.ingress.rules import HeadRules

__all__ = ("Pattern",)

_OF_VALUES: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))


class _Opening(NamedTuple):
    """One line that may differ: it begins with `prefix`. `at` is its place among the fields that go on (-1:
    none), `take` reads a value that means something here and says whether it may stand there."""

    prefix: bytes
    name: bytes
    at: int
    take: Callable[[Head, bytes], bool] | None


class Pattern:
    """The judged `head` of `block` (its empty line included) and what it leaves open."""

    __slots__ = ("_head", "_indexes", "_is_origin_form", "_lines", "_openings", "_rules")

    def __init__(self, head: Head, block: bytes, rules: HeadRules) -> None:
        self._head = head
        self._rules = rules
        self._lines = block[:-4].split(b"\r\n")
        self._is_origin_form = self._lines[0].startswith(head.method + b" /")
        self._openings = [None, *_openings(head, self._lines[1:], rules)]
        self._indexes = range(len(self._lines))

    def head_of(self, block: bytes) -> Head | None:
        """The judgement of another head, or None where it has to be judged by itself."""
        lines = block[:-4].split(b"\r\n")
        if len(lines) != len(self._lines):
            return None
        head = self._head.copy()
        try:
            return head if self._take(head, lines) else None
        except ProxyError:
            return None

    def _take(self, head: Head, lines: list[bytes]) -> bool:
        """Put into `head` what differs; False when something does that may not."""
        fields, longest, openings = list(head.headers), self._rules.limits.header_line, self._openings
        for index in compress(self._indexes, map(ne, lines, self._lines)):
            line, opening = lines[index], openings[index]
            if not index:
                if not self._take_target(head, line):
                    return False
                continue
            if opening is None or not line.startswith(opening[0]) or len(line) > longest:
                return False
            prefix, name, at, take = opening
            value = line[len(prefix) :].strip(b" \t")
            if not (take(head, value) if take is not None else not value.translate(None, _OF_VALUES)):
                return False
            if at >= 0:
                fields[at] = name, value
        head.headers = tuple(fields)
        return head.length is None or head.length <= self._rules.limits.body

    def _take_target(self, head: Head, line: bytes) -> bool:
        method, target, version = read_request_line(line, self._rules.limits)
        self._rules.check_target(target)
        head.target = target
        is_plain = target.startswith(b"/") and b"#" not in target and self._is_origin_form
        return is_plain and (method, version) == (head.method, head.http_version)


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
        if place in _TAKEN and not goes_on:
            opening = _Opening(name + b":", name, -1, _TAKEN[place])
        elif goes_on and (place in _KEPT or (place == b"authorization" and not rules.keys)):
            opening = _Opening(name + b":", name, at, _KEPT.get(place))
        if place == b"content-length" and is_upgradable:  # without a body it would be an upgrade
            opening = None
        openings.append(opening)
        at += goes_on
    return openings


def _take_request_id(head: Head, value: bytes) -> bool:
    head.request_id = value
    return is_request_id(value)


def _take_trace(head: Head, value: bytes) -> bool:
    was_known, head.trace = head.trace is not None, trace_of(value)
    return was_known and head.trace is not None


def _take_length(head: Head, value: bytes) -> bool:
    head.length = read_length(value)
    return True


_TAKEN: Final = {b"content-length": _take_length, b"traceparent": _take_trace}
"""Fields that end here."""
_KEPT: Final = {ORDINARY: None, b"x-request-id": _take_request_id}
"""Fields that go on."""
