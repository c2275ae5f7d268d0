"""Readiness: a list of named questions, all of which must be answered yes.

Each room that can keep the proxy from doing its work contributes a `Check`; asking is cheap and has no side
effects, because orchestrators ask every second or two. A check says why it fails in words for an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("Check", "Readiness", "readiness")


@dataclass(frozen=True, slots=True)
class Check:
    """A named question; `ask` returns whether it is well, and if not, why."""

    name: str
    ask: Callable[[], tuple[bool, str]]


class Readiness(NamedTuple):
    """The verdict, and the text that explains it: failures only (`brief`) or every check (`verbose`)."""

    is_ready: bool
    brief: str
    verbose: str


def readiness(checks: Iterable[Check]) -> Readiness:
    """Ask every check."""
    answers = [(check.name, *check.ask()) for check in checks]
    failures = [f"{name}: {why}" for name, ok, why in answers if not ok]
    lines = [f"[+] {name} ok" if ok else f"[-] {name}: {why}" for name, ok, why in answers]
    verdict = "not ready" if failures else "ready"
    return Readiness(
        is_ready=not failures,
        brief="\n".join((verdict, *failures)) + "\n",
        verbose="\n".join((*lines, verdict)) + "\n",
    )
