"""A batch failed: who is to blame, found with few calls, so that everybody else gets a real answer.

Theory of operation
-------------------
`Isolation` says which members to send together next and learns from each outcome; the shell sends. What a
failure means depends on its status:

* *About the path, the credentials or the backend* (401, 403, 404, 502, …): every member would get the same.
  It is given to all and nothing is sent again.
* *Too much at once* (413, 429): both halves are tried, and one that is refused again by 413 is halved
  further. 429 may as well be about the rate of calls, and more of them would make that worse: of the first
  half that gets it again one member is tried alone. If even that is too much, all halves like it are told
  so; else the size of calls matters, and they are halved further. Nobody is suspected.
* *A mismatch* (the answer did not hold one part for each member): everybody is sent alone.
* *Anything else* may be one member's fault. If the error names an item (several servers do) that member is
  sent alone and the others together: two calls. Otherwise the batch is halved: when one half succeeds the
  other is known to hold the culprit and is halved in turn without being tried, so one culprit among n costs
  about log2(n) calls and never more than twice that.

* *A connection that broke* before the answer was whole may be one member's fault too: an item that kills the
  process that works on it. Each trial that fails may kill another, so trials are made one after the other and
  few of them can fail: the batch is cut into about as many groups as each then has members, and only the
  members of a group that is lost are sent alone, when everybody else has an answer. Two losses before
  anything was answered, or a handful in all, mean a backend that falls by itself; one that cannot be reached
  at all (it is starting again) is not asked further.

A backend that is broken fails everything. If a half fails with the very same server error as the whole, one
of its members and one from the far end are tried alone; if both fail alike too, the backend is sick: the
rest get that answer and nothing more is sent.

After the budget for groups is spent, whoever is left is sent alone: that is what the backend would have got
without batching, and an innocent never pays for others.

Afterwards `lesson` says what was learned: which members were at fault, or, when nobody was, the largest group
that worked (the batch was too large), or that nothing but singles works.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from proxy.errors import Reset, StreamReset
from proxy.exchange import field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.errors import ProxyError
    from proxy.exchange import Headers

__all__ = ("MISMATCH", "NO_ANSWER", "Failure", "Group", "Isolation", "Lesson")

Group = tuple[int, ...]
"""Members by their place in the batch."""

MISMATCH = 0
"""The status of an answer that could not be cut."""

NO_ANSWER = -1
"""The status where there was no answer at all."""

_SAME_FOR_ALL = frozenset((401, 403, 404, 405, 406, 407, 501, 502, 503, 504))
_TOO_MUCH = frozenset((413, 429))
_SICK_GROUPS = 2
_SICK_SINGLES = 2
_LOSSES_AT_ONCE = 2  # connections, before anything was answered
_MOST_LOSSES = 6
_LARGEST_BUDGET = 16

# Wordings that count items from 0: TensorFlow Serving; FastAPI's validation errors; and those of common
# servers.
_HINTS = (
    re.compile(rb"process element: (\d+)"),
    re.compile(rb'"(?:instances|inputs|input|body)",(?:"(?:instances|inputs|input)",)?(\d+)'),
    re.compile(
        rb"(?:instances?|inputs?|items?|rows?|element|sample|index)\W{0,2}(?:index |at |#)?\[?(\d+)\b"
    ),
)


class Failure(NamedTuple):
    """An answer that was no success, whole.

    `status` is what it means in HTTP's terms, `text` what it says; a gRPC answer has both in its fields.
    `error` is why there is no answer, where there is none.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    reason: bytes = b""
    trailers: Headers = ()
    error: ProxyError | None = None

    @property
    def text(self) -> bytes:
        """The words that tell this failure from others."""
        return self.body or field(self.trailers or self.headers, b"grpc-message") or b""

    @property
    def is_for_all(self) -> bool:
        """Whether every member would have got it."""
        is_told_to_all = self.status in _SAME_FOR_ALL or 300 <= self.status < 400
        return is_told_to_all or (self.error is not None and not self.is_lost)

    @property
    def is_lost(self) -> bool:
        """Whether the backend took the call and broke off."""
        return isinstance(self.error, Reset | StreamReset)

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the backend took nothing, so that nobody else would be answered now."""
        return self.error is not None and self.error.retry == "if_unsent"

    @property
    def is_too_much(self) -> bool:
        """Whether it speaks of the size or the load and not of an item."""
        return self.status in _TOO_MUCH

    def is_like(self, other: Failure) -> bool:
        """Whether both are the same answer."""
        return self.status == other.status and self.text == other.text


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an isolation taught.

    `culprits` are the members that fail alone. `largest_items` is the largest group that worked when nobody
    was at fault, 0 if none did; `works_only_alone` says that single calls did work then.
    """

    culprits: Group
    largest_items: int
    works_only_alone: bool
    is_sick: bool


class Isolation:
    """Takes one failed batch apart. `sizes` are the items of its members, two or more."""

    def __init__(self, sizes: Sequence[int], failure: Failure) -> None:
        self._sizes = sizes
        self._first = failure
        self._budget = min(4 * math.ceil(math.log2(len(sizes))) + 2, _LARGEST_BUDGET)
        self._stack: list[tuple[Group, bool]] = []  # groups still to be tried; True: known to hold a culprit
        self._sibling: dict[Group, Group] = {}
        self._culprits: list[int] = []
        self._successes = 0
        self._largest_items = 0
        self._alike_groups = 1
        self._alike_singles = 0
        self._losses = 0
        self._probe: int | None = None
        self._refused: list[int] = []  # until the probe tells whether their number matters, or for good
        self._is_size = False
        self.is_sick = False
        everybody = tuple(range(len(sizes)))
        if failure.status == MISMATCH:
            self._stack = [((index,), False) for index in reversed(everybody)]
        elif failure.is_lost:
            size = max(math.isqrt(len(sizes)), math.ceil(len(sizes) / self._budget))
            groups = [everybody[start : start + size] for start in range(0, len(sizes), size)]
            self._stack = [(group, False) for group in reversed(groups)]
        elif (hinted := self._hinted(failure.text)) is not None:
            self._stack = [(everybody[:hinted] + everybody[hinted + 1 :], False), ((hinted,), False)]
        else:
            self._halve(everybody)

    def next_group(self) -> Group | None:
        """The members to send together next; None when nothing is left to send."""
        while self._stack and not self.is_sick:
            group, is_tainted = self._stack.pop()
            if len(group) > 1:
                if self._budget <= 0:
                    self._stack += [((index,), False) for index in reversed(group)]
                    continue
                if is_tainted:
                    self._halve(group)
                    continue
                self._budget -= 1
            return group
        return None

    def report(self, group: Group, failure: Failure | None) -> bool:
        """The outcome of sending `group`; True when `failure` is what its members are to be told."""
        if group == (self._probe,) and (failure is None or failure.status != 429):
            self._is_size = True
            self._halve(tuple(self._refused))
            self._refused = []
        if failure is None:
            self._succeeded(group)
            return False
        if failure.is_out_of_reach:
            self.is_sick = True
            return True
        if failure.is_lost:
            return self._lose(group)
        if len(group) == 1:
            self._failed_alone(group[0], failure)
            return True
        if failure.is_for_all:
            return True
        if failure.status == MISMATCH:
            self._stack += [((index,), False) for index in reversed(group)]
        elif failure.status == self._first.status == 429 and not self._is_size:
            self._refuse(group)
        else:
            self._suspect(group, failure)
        return False

    @property
    def abandoned(self) -> Group:
        """When nothing is left to send: those who are to be told the first failure."""
        left = [index for group, _ in self._stack for index in group] if self.is_sick else []
        return tuple(left + self._refused)

    @property
    def lesson(self) -> Lesson:
        """What was learned, when everything is settled."""
        is_size = not self._culprits and not self.is_sick
        largest = self._largest_items if is_size else 0
        is_anybody_answered = bool(self._successes) or not self.is_sick
        return Lesson(
            tuple(sorted(self._culprits)) if is_anybody_answered else (),
            largest,
            is_size and not largest and self._successes > 1,
            self.is_sick,
        )

    def _succeeded(self, group: Group) -> None:
        self._successes += 1
        if len(group) > 1:
            self._largest_items = max(self._largest_items, sum(self._sizes[index] for index in group))
        top = self._stack[-1][0] if self._stack else ()
        if self._sibling.get(group) == top and not self._first.is_too_much:
            self._stack[-1] = (top, True)

    def _suspect(self, group: Group, failure: Failure) -> None:
        """Look for the culprit in `group`, unless everything seems to fail alike."""
        if failure.is_like(self._first):
            self._alike_groups += 1
            if failure.status >= 500 and self._alike_groups == _SICK_GROUPS and not self._successes:
                self._halve(group[:-1])
                self._try_alone(group[-1])
                return
        self._halve(group)

    def _refuse(self, group: Group) -> None:
        """`group` is too much for the backend; whether less of it is not is found out once."""
        if self._probe is None:
            self._probe = group[0]
            self._stack.append(((self._probe,), False))
            group = group[1:]
        self._refused += group

    def _lose(self, group: Group) -> bool:
        """The connection broke under `group`; True when its members are to be told so."""
        self._losses += 1
        if self._losses >= (_MOST_LOSSES if self._successes else _LOSSES_AT_ONCE):
            self.is_sick = True
        if len(group) == 1:
            self._culprits.append(group[0])
        elif not self.is_sick:
            self._stack[:0] = [((index,), False) for index in reversed(group)]  # after everybody else
            return False
        return True

    def _failed_alone(self, index: int, failure: Failure) -> None:
        if not failure.is_for_all and not failure.is_too_much:
            self._culprits.append(index)
        if failure.is_like(self._first) and failure.status >= 500 and not self._successes:
            self._alike_singles += 1
            if self._alike_groups >= _SICK_GROUPS and self._alike_singles >= _SICK_SINGLES:
                self.is_sick = True

    def _halve(self, group: Group) -> None:
        """Put both halves on the stack, the first on top."""
        middle = (len(group) + 1) // 2
        first, second = group[:middle], group[middle:]
        if second:
            self._stack.append((second, False))
            self._sibling[first] = second
        self._stack.append((first, False))

    def _try_alone(self, member: int) -> None:
        """Put `member`, and one from the far end of what is left, on top: is anybody answered at all?"""
        far, is_tainted = self._stack[0]
        if len(far) > 1:
            self._stack[0] = (far[:-1], is_tainted)
            self._stack.append(((far[-1],), False))
        self._stack.append(((member,), False))

    def _hinted(self, text: bytes) -> int | None:
        """The member whose item the error `text` names, if it names one."""
        if self._first.is_too_much or len(self._sizes) < 3:
            return None
        for pattern in _HINTS:
            found = pattern.search(text)
            if found is not None:
                item = int(found[1])
                ends = accumulate(self._sizes)
                return next((index for index, end in enumerate(ends) if item < end), None)
        return None
