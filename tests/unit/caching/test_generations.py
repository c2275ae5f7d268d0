from __future__ import annotations

from itertools import count

from proxy.caching import generations
from proxy.caching.generations import Generations


def some() -> Generations:
    numbers = count()
    return Generations(lambda: b"t%d" % next(numbers))


def test_a_token_stays_while_nothing_happens() -> None:
    these = some()
    assert these.of("up", "m") == these.of("up", "m") == some().of("up", "m")


def test_a_model_that_was_loaded_anew_gets_a_new_token_and_the_others_keep_theirs() -> None:
    these = some()
    before, other, elsewhere = these.of("up", "m"), these.of("up", "n"), these.of("down", "m")
    these.renew("up", "m")
    assert these.of("up", "m") != before
    assert (these.of("up", "n"), these.of("down", "m")) == (other, elsewhere)
    again = these.of("up", "m")
    these.renew("up", "m")
    assert these.of("up", "m") != again


def test_an_upstream_renews_all_its_models() -> None:
    these = some()
    these.renew("up", "m")
    before, elsewhere = these.of("up", "m"), these.of("down", "m")
    these.renew("up")
    assert these.of("up", "m") != before
    assert these.of("down", "m") == elsewhere
    these.renew_all()
    assert these.of("down", "m") != elsewhere


def test_a_lost_upstream_starts_anew_with_its_first_sign_of_life() -> None:
    these = some()
    before, other = these.of("up", "m"), these.of("down", "m")
    these.answered("up")
    these.lost("up")
    assert these.of("up", "m") == before
    these.answered("down")
    assert these.of("up", "m") == before
    these.answered("up")
    after = these.of("up", "m")
    assert after != before
    these.answered("up")
    assert (these.of("up", "m"), these.of("down", "m")) == (after, other)


def test_an_endpoint_that_comes_back_starts_its_upstream_anew() -> None:
    these = some()
    first, elsewhere = these.of("up", "m"), these.of("down", "m")
    for is_alive in (False, True, True, False, False):  # not seen before, then there, then away
        these.seen("up", "http://a", is_alive=is_alive)
    these.seen("up", "http://b", is_alive=True)
    these.seen("down", "http://a", is_alive=True)
    assert (these.of("up", "m"), these.of("down", "m")) == (first, elsewhere)
    these.seen("up", "http://a", is_alive=True)
    second = these.of("up", "m")
    assert (second != first, these.of("down", "m")) == (True, elsewhere)
    these.seen("up", "http://a", is_alive=True)
    assert these.of("up", "m") == second


def test_tokens_can_be_kept_and_taken_over() -> None:
    these, later = some(), some()
    these.renew("up", "m")
    kept = these.unsaved()
    these.saved(kept)
    assert these.unsaved() == {}
    later.adopt(kept)
    assert later.of("up", "m") == these.of("up", "m") != some().of("up", "m")
    later.adopt(kept)
    assert later.unsaved() == {}


def test_a_token_that_is_not_kept_yet_wins_over_an_old_one() -> None:
    these = some()
    these.renew("up")
    token = these.of("up", "m")
    these.adopt({"up": b"old"})
    assert these.of("up", "m") == token


def test_a_token_renewed_while_the_last_was_being_kept_is_still_unsaved() -> None:
    these = some()
    these.renew("up")
    being_kept = these.unsaved()
    these.renew("up")
    these.saved(being_kept)
    assert these.unsaved() == {"up": b"t1"}


def test_too_many_models_are_renewed_together() -> None:
    these = some()
    for index in range(generations._MOST_MODELS):
        these.renew("up", f"m{index}")
    before = these.of("up", "another")
    these.renew("up", "one-more")
    assert these.of("up", "another") != before
    assert len(these.unsaved()) == generations._MOST_MODELS + 1


def test_names_from_clients_do_not_pile_up() -> None:
    these = some()
    for index in range(generations._MOST_MODELS + 10):
        these.of("up", f"m{index}")
    assert len(these._composed) <= generations._MOST_MODELS
