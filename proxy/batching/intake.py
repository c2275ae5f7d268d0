"""Whether a call may be merged, and in which lane it waits: everything that is decided before it does.

Theory of operation
-------------------
A call is examined in the order of what costs least: the policy, the protocol, the body's kind, the header
fields, and last the body itself, which the codec reads and which may name the model. What comes out is the
batch key: everything that must be equal for two calls to share an upstream call. Calls with equal keys share
a `CallLane`.

A call that could be merged may still have to travel alone for a while: its lane is suspended, or the very
same call spoiled a batch before. And it may be turned away: if what waits already is known to take longer
than the call's deadline allows, waiting would only waste the backend's time on an answer that comes too
late. That needs a model of the backend that thirty batches have confirmed; nobody is turned away for want
of knowledge.

What the head says does not depend on the body, and most connections repeat their head to the byte. So the
head's part of the key is an object, a `Stem`: heads that agree share it, and a head that is repeated finds
it again without being read.

Lanes are cheap and are opened for each new key. When there are many, those that nobody waits in are
forgotten; that is looked at again only when their number has doubled, so that ten thousand busy lanes cost
no more than one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from proxy.batching.examined import Examined, Origin, Stem
from proxy.batching.experience import Experience
from proxy.batching.plan import Plans
from proxy.batching.tickets import CallLane
from proxy.errors import MergeRefused, Overloaded

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from proxy.batching.codecs.base import Codec
    from proxy.batching.policy import BatchPolicy
    from proxy.batching.tickets import Subject
    from proxy.exchange import Call

__all__ = ("Intake",)

_MOST_IDLE_LANES = 1024
_MOST_HEADS = 4096


class Intake:
    """The lanes of one upstream, by batch key."""

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self.plans = Plans()
        self.experience = Experience()
        self.lanes: dict[Hashable, CallLane] = {}
        self._codecs = codecs
        self._stems: WeakValueDictionary[Hashable, Stem] = WeakValueDictionary()
        self._origins: dict[object, Origin] = {}
        self._most_lanes = _MOST_IDLE_LANES

    def examine(self, call: Call, subject: Subject, policy: BatchPolicy) -> Examined:
        """What `call` could be merged with; raises `MergeRefused`."""
        origin = self._origins.get(call.head)
        if origin is None or origin.subject is not subject or origin.policy is not policy:
            origin = self._read_head(call, subject, policy)
        body = call.body
        if not isinstance(body, bytes):
            raise MergeRefused("streamed_body")
        stem = origin.stem
        prepared = stem.prepare(body, call.headers)
        barred = self.experience.barred
        if barred and (why := barred.get(subject.model or prepared.model)) is not None:
            raise MergeRefused(why)
        return Examined(stem, origin.wishes, prepared, (stem, prepared.key))

    def _read_head(self, call: Call, subject: Subject, policy: BatchPolicy) -> Origin:
        """What the head says about merging; kept if the connection repeats it."""
        if policy.mode == "off":
            raise MergeRefused("off")
        codec = self._codecs.get(subject.codec or "")
        if codec is None:
            raise MergeRefused("no_codec")
        plan = self.plans.of(policy)
        headers, wishes = plan.rules.read(call.headers)
        if wishes.is_off:
            raise MergeRefused("unwished")
        key = (plan, call.identity, call.method, call.target, call.scheme, codec.name, headers)
        stem = self._stems.get(key)
        if stem is None:
            stem = self._stems[key] = Stem(plan, codec, headers)
        origin = Origin(subject, policy, stem, wishes)
        if call.head is not None:
            if len(self._origins) >= _MOST_HEADS:
                self._origins.clear()
            self._origins[call.head] = origin
        return origin

    def place(
        self, examined: Examined, call: Call, subject: Subject, now: float, *, has_left: bool = False
    ) -> CallLane:
        """The lane that `call` is to wait in, or would have been; raises `MergeRefused`, `Overloaded`."""
        lane = self.lanes.get(examined.key)
        self.check(lane, call, now)
        if lane is None:
            return self._open(examined, call, subject, now)
        if not has_left:
            _check_wait(lane, call, now)
        return lane

    def check(self, lane: CallLane | None, call: Call, now: float) -> None:
        """Refuse a call that has to travel alone for a while."""
        if lane is not None and lane.suspended_until > now:
            raise MergeRefused("suspended")
        if isinstance(call.body, bytes) and self.experience.quarantine.holds(call.target, call.body, now):
            raise MergeRefused("quarantined")

    def forget(self, model: str) -> None:
        """`model` was loaded anew."""
        self.experience.forget(model)
        for lane in self.lanes.values():
            if lane.model == model:
                lane.suspended_until = lane.sick_until = 0.0
                lane.strikes = 0

    def waiting(self) -> Iterable[tuple[str, int]]:
        """(model, calls that wait in a lane), for a gauge; models may repeat."""
        return [(lane.model, len(lane.tickets())) for lane in self.lanes.values() if lane.items]

    def limits(self) -> Iterable[tuple[str, float]]:
        """(model, batches that may be in flight at once), for a gauge; nothing where there is no limit."""
        limits = {lane.model: lane.plan.former.limit for lane in self.lanes.values()}
        return [(model, limit) for model, limit in limits.items() if limit < math.inf]

    def _open(self, examined: Examined, call: Call, subject: Subject, now: float) -> CallLane:
        lanes = self.lanes
        if len(lanes) >= self._most_lanes:
            self.lanes = lanes = {
                key: lane for key, lane in lanes.items() if lane.items or lane.suspended_until > now
            }
            self._most_lanes = max(_MOST_IDLE_LANES, 2 * len(lanes))
        plan, codec, headers = examined.stem.plan, examined.stem.codec, examined.stem.headers
        model = subject.model or examined.prepared.model
        target = call.target.partition(b"?")[0]  # queries are without number, and the model is the same
        path = (plan, call.method, target, codec.name, model)
        profile = self.experience.profile(path, model, target, plan)
        lane = CallLane(examined.key, plan, profile, call=call, codec=codec, headers=headers)
        lanes[lane.key] = lane
        return lane


def _check_wait(lane: CallLane, call: Call, now: float) -> None:
    """Turn a call away that would certainly be late."""
    former, profile = lane.plan.former, lane.profile
    if now + former.backlog_s + profile.service_s <= call.deadline or not profile.model.is_confident:
        return  # in time even on a backend that does one thing at a time
    wait_s = former.backlog_s / lane.plan.slots.work_rate
    if former.waiting and now + wait_s + profile.work_s(1) > call.deadline:
        raise Overloaded(
            "what waits already takes longer than the deadline allows", retry_after_s=math.ceil(wait_s)
        )
