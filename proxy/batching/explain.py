"""What the lanes know and would do, for people: status pages, ``explain``, logs.

Theory of operation
-------------------
Everything here reads and returns JSON values. Values of header fields can be credentials and are shown as
digests. The payload's part of the key is shown as it is, cut to a readable length; it holds shapes, names
and parameters, never items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import MergeRefused
from proxy.telemetry.disclosure import shown_fields

if TYPE_CHECKING:
    from proxy.batching.examined import Examined
    from proxy.batching.intake import Intake
    from proxy.batching.policy import BatchPolicy
    from proxy.batching.profile import Profile
    from proxy.batching.tickets import Subject
    from proxy.exchange import Call

__all__ = ("describe", "explain")

_LONGEST = 400


def explain(
    intake: Intake, call: Call, subject: Subject, policy: BatchPolicy, now: float
) -> dict[str, object]:
    """Whether `call` would be merged and with what, or why not. Sends nothing, changes nothing."""
    try:
        examined = intake.examine(call, subject, policy)
        lane = intake.lanes.get(examined.key)
        intake.check(lane, call, now)
    except MergeRefused as refusal:
        return {"merged": False, "why": refusal.why}
    return {
        "merged": True,
        "items": examined.prepared.items,
        "key": _key(examined, call),
        "limits": {
            "items": examined.stem.plan.new_cap().items if lane is None else lane.profile.cap.items,
            "max_wait_s": examined.wishes.max_wait_s
            if examined.wishes.max_wait_s is not None
            else examined.stem.plan.bounds.wait_s,
            "bytes": examined.stem.plan.bounds.nbytes,
            "inflight": _finite(examined.stem.plan.former.limit),
        },
        "waiting": 0 if lane is None else len(lane.tickets()),
    }


def describe(intake: Intake, now: float) -> dict[str, object]:
    """What is waiting, what is in flight and what was learned."""
    experience = intake.experience
    return {
        "in_flight": experience.company.count,
        "lanes": len(intake.lanes),
        "slots": [
            {
                "limit": _finite(slots.former.limit),
                "in_flight": len(slots.former.in_flight),
                "waiting": slots.former.waiting,
                "is_learned": slots.learner is not None,
            }
            for slots in intake.plans.slots
        ],
        "paths": [_path(profile, now) for profile in experience.profiles.values()],
        "quarantined": len(experience.quarantine),
        "not_batched": dict(experience.barred),
    }


def _key(examined: Examined, call: Call) -> dict[str, object]:
    return {
        "method": call.method.decode("latin-1"),
        "target": call.target.decode("latin-1"),
        "codec": examined.stem.codec.name,
        "headers": shown_fields(examined.stem.headers),
        "payload": repr(examined.prepared.key)[:_LONGEST],
    }


def _path(profile: Profile, now: float) -> dict[str, object]:
    model = profile.model
    return {
        "model": profile.name,
        "target": profile.target.decode("latin-1"),
        "most_items": profile.cap.items,
        "latency": {
            "base_ms": round(model.base_s * 1e3, 3),
            "item_ms": round(model.item_s * 1e3, 4),
            "spread_ms": round(model.spread_s * 1e3, 3),
            "observations": model.count,
        },
        "last": [
            {
                "age_s": round(now - record.sent_at, 3),
                "items": record.items,
                "members": record.members,
                "trigger": record.trigger,
                "wait_ms": round(record.wait_s * 1e3, 3),
                "took_ms": round(record.seconds * 1e3, 3),
                "status": record.status,
            }
            for record in reversed(profile.last)
        ],
    }


def _finite(limit: float) -> float | None:
    return limit if limit != float("inf") else None
