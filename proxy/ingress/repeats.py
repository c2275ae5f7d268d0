"""Requests whose head was judged before on the same connection (pure).

Theory of operation
-------------------
Keep-alive clients mostly repeat their head to the byte. When a read begins with the connection's last head
and brings exactly its body, the judgement of that head holds again: the same bytes on the same connection
mean the same request. A head that differs from it only in ids, lengths or values is found by what they have
in common (`proxy.ingress.variation`); one that comes twice running is judged by itself, and from then on it
is the one that is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.ingress.variation import Pattern

if TYPE_CHECKING:
    from proxy.ingress.head import Head
    from proxy.ingress.rules import HeadRules

__all__ = ("Repeats",)

# A longer head is not worth remembering for each idle connection.
_MAX_REMEMBERED: Final = 2048
# A connection whose heads have nothing in common is spared the comparison after so many in a row.
_MOST_SURPRISES: Final = 8


class Repeats:
    """What one connection's heads have in common.

    `found` is the judged head of the request that was found last; `said` is what differs from it: its target,
    fields, length, id and trace. It is `found` itself when nothing does.
    """

    __slots__ = ("_block", "_head", "_pattern", "_rules", "_surprises", "found", "said")

    found: Head
    said: Head | Pattern

    def __init__(self, rules: HeadRules) -> None:
        self._rules = rules
        self._head: Head | None = None
        self._block = b""
        self._pattern: Pattern | None = None
        self._surprises = 0

    def remember(self, head: Head, block: bytes) -> None:
        """`head` was judged by itself and its body came with it; `block` is what it was written as."""
        if len(block) <= _MAX_REMEMBERED and not (
            head.is_chunked or head.upgrade or head.expects_continue or head.is_for_us
        ):
            self._head, self._block = head, block

    def find(self, data: bytes) -> int:
        """Where the body begins of the one request that `data` is; 0 when it has to be read."""
        head = self._head
        if head is None:
            return 0
        if not data.startswith(self._block):
            return self._find_varied(head, data)
        end = len(self._block)
        if len(data) - end != (head.length or 0):
            return 0
        self.found = self.said = head
        return end

    def _find_varied(self, head: Head, data: bytes) -> int:
        if self._surprises > _MOST_SURPRISES:
            return 0
        pattern = self._pattern
        if pattern is None:
            self._pattern = pattern = Pattern(head, self._block, self._rules)
        end = pattern.read(data)
        if end <= 0:
            if end == 0:
                self._surprises += 1
                self._pattern = None
            return 0
        self._surprises = 0
        if len(data) - end != (pattern.length or 0):
            return 0
        self.found, self.said = pattern.head, pattern
        return end
