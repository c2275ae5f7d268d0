"""What the planner decides: effects that its shell, or the simulator, carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from proxy.loading.predictor import Cause
    from proxy.loading.queue import Ticket

__all__ = (
    "Action",
    "Cancel",
    "Failure",
    "FailureKind",
    "Load",
    "Prospect",
    "Refuse",
    "RefuseReason",
    "Release",
    "Report",
    "Unload",
)

FailureKind = Literal["refused", "missing", "memory", "timeout", "unreachable"]
"""Why a load failed: the backend said no, does not know it, has no memory, hung, or could not be reached."""


RefuseReason = Literal["deadline", "loading", "failed", "full", "no_room"]


class Load(NamedTuple):
    """Ask the backend to load `model`."""

    model: str
    cause: Cause
    why: str


class Unload(NamedTuple):
    """Ask the backend to unload `model`."""

    model: str
    why: str


class Cancel(NamedTuple):
    """Stop waiting for the running load of `model`, then make sure that it is unloaded."""

    model: str
    why: str


class Release(NamedTuple):
    """The model is ready: the ticket's request may go on."""

    ticket: Ticket


class Refuse(NamedTuple):
    """The ticket's request cannot wait any longer; it may come back after `retry_after_s`."""

    ticket: Ticket
    reason: RefuseReason
    retry_after_s: float
    detail: str = ""


class Prospect(NamedTuple):
    """What a request for a model in `state` would meet: it goes on at once, `waits` for about `eta_s`, or is
    refused."""

    state: str
    waits: bool
    eta_s: float = 0.0
    refusal: Refuse | None = None


Action = Load | Unload | Cancel | Release | Refuse


class Failure(NamedTuple):
    """How a load went wrong."""

    kind: FailureKind
    detail: str = ""


class Report(NamedTuple):
    """What the backend's listing says about one model; `size` in bytes, 0 where it does not tell."""

    state: Literal["unloaded", "loading", "ready", "unloading", "failed", "unknown"]
    size: int = 0
    detail: str = ""
