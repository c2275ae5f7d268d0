"""What the cache says it would do agrees with what it then does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from proxy.exchange import Call, Reply, Stream
from proxy.routing.table import Match, Route
from tests.support.batching import HeldUpstream, predict, predict_call, turns
from tests.support.caching import INFER, METADATA, PREDICT, a_cache, infer_call, policy, status_of
from tests.support.clock import FakeClock

if TYPE_CHECKING:
    from proxy.caching.policy import CachePolicy

STALE = policy(ttl=10.0, stale_while_revalidate=20.0)


class Scene:
    """A cache before a backend."""

    def __init__(self, rule: CachePolicy | None = None, *, is_held: bool = False) -> None:
        self.clock = FakeClock()
        self.upstream = HeldUpstream(predict, is_held=is_held)
        self.cache = a_cache(self.clock, metadata=5.0)
        self.rule = rule or policy()

    def explain(self, call: Call, match: Match = PREDICT) -> dict[str, Any]:
        return self.cache.explain(call, match, self.rule)

    async def serve(self, call: Call) -> Reply:
        return await self.cache.serve(call, PREDICT, self.rule, self.upstream.exchange)


async def test_a_miss_becomes_a_hit() -> None:
    scene = Scene()
    before = scene.explain(predict_call(1.5))
    assert (before["verdict"], before["known"], before["questions"]) == ("miss", {"unknown": 1}, 1)
    assert not scene.upstream.calls
    await scene.serve(predict_call(1.5))
    after = scene.explain(predict_call(1.5))
    assert (after["verdict"], after["known"]) == ("hit", {"kept": 1})
    assert after["key"] == before["key"]
    assert status_of(await scene.serve(predict_call(1.5))).startswith("hit")


async def test_some_items_are_known() -> None:
    scene = Scene()
    await scene.serve(predict_call(1.5))
    found = scene.explain(predict_call(1.5, 2.5))
    assert (found["verdict"], found["known"]) == ("partial", {"kept": 1, "unknown": 1})
    assert len(found["key"]["digests"]) == 2


async def test_what_is_stale_is_renewed() -> None:
    scene = Scene(STALE)
    await scene.serve(predict_call(1.5))
    scene.clock.advance(15.0)
    assert scene.explain(predict_call(1.5))["verdict"] == "stale"
    demanding = predict_call(1.5, headers=((b"Cache-Control", b"max-age=60"),))
    scene.clock.advance(1.0)
    assert scene.explain(demanding)["verdict"] == "miss"


async def test_somebody_else_is_asking() -> None:
    scene = Scene(is_held=True)
    asking = asyncio.get_running_loop().create_task(scene.serve(predict_call(1.5)))
    await turns()
    assert scene.explain(predict_call(1.5))["verdict"] == "collapsed"
    insisting = predict_call(1.5, headers=((b"Cache-Control", b"no-cache"),))
    assert scene.explain(insisting)["verdict"] == "miss"
    scene.upstream.release_all()
    await asking


async def test_an_answer_that_was_not_keepable() -> None:
    scene = Scene(policy(entry=1))
    await scene.serve(predict_call(1.5))
    found = scene.explain(predict_call(1.5))
    assert (found["verdict"], found["known"]) == ("bypass", {"not_kept": 1})


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (predict_call(1.5, headers=((b"Cache-Control", b"no-store"),)), "no_store"),
        (predict_call(1.5, headers=((b"If-Match", b"x"),)), "conditional"),
        (Call(b"POST", b"/p", (), b" " * ((1 << 20) + 1)), "large_body"),
        (Call(b"POST", b"/p", (), Stream(None)), "large_body"),
    ],
)
async def test_what_is_not_looked_up(call: Call, why: str) -> None:
    assert Scene().explain(call) == {"looked_up": False, "why": why}


async def test_what_is_no_question_or_not_wanted() -> None:
    other = Match(Route("other", "model", "generic", "other", ()))
    assert Scene().explain(predict_call(1.5), other) == {"looked_up": False, "why": "not_a_question"}
    assert Scene(policy(mode="off")).explain(predict_call(1.5)) == {"looked_up": False, "why": "off"}


async def test_metadata_has_a_policy_of_its_own() -> None:
    found = Scene(policy(mode="off")).explain(Call(b"GET", b"/v2/models/digits", ()), METADATA)
    assert (found["verdict"], found["ttl_s"]) == ("miss", 5.0)


async def test_the_key_names_its_parts_and_shows_no_secret() -> None:
    scene = Scene()
    fields = ((b"Content-Type", b"application/json"), (b"Authorization", b"Bearer s3cret"))
    key = scene.explain(infer_call([1.0], ident="me", headers=fields), INFER)["key"]
    assert key["id"] == "left out"
    assert "FP32" in key["input"]
    assert key["headers"]["content-type"] == "application/json"
    assert key["headers"]["authorization"].startswith("blake2:")
    assert "s3cret" not in str(key)
    whole = scene.explain(Call(b"POST", b"/p", (), b"?"), PREDICT)["key"]
    assert (whole["input"], whole["id"]) == ("the whole body", "part of the input")
