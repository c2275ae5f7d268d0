from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy import errors
from proxy.telemetry.ended import OUTCOMES, Outcome, outcome_of_error, outcome_of_status

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (304, "ok"),
        (399, "ok"),
        (400, "client_error"),
        (499, "client_error"),
        (500, "upstream_error"),
        (503, "upstream_error"),
        (504, "timeout"),
    ],
)
def test_the_backends_status_decides(status: int, outcome: Outcome) -> None:
    assert outcome_of_status(status) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (errors.ClientGone(), "cancelled"),
        (errors.BadRequest(), "client_error"),
        (errors.BodyTooLarge(), "client_error"),
        (errors.RouteNotFound(), "client_error"),
        (errors.QueueFull(), "shed"),
        (errors.Draining(), "shed"),
        (errors.DeadlineExceeded(), "timeout"),
        (errors.ConnectTimeout(), "timeout"),
        (errors.ReadTimeout(), "timeout"),
        (errors.ConnectFailed(), "upstream_error"),
        (errors.SplitMismatch(), "upstream_error"),
        (errors.ProxyError(), "proxy_error"),
        (errors.MergeRefused("shape"), "proxy_error"),
        (KeyError("a bug"), "proxy_error"),
    ],
)
def test_an_errors_class_decides(error: BaseException, outcome: Outcome) -> None:
    assert outcome_of_error(error) == outcome


def _leaves(root: type[errors.ProxyError]) -> Iterator[type[errors.ProxyError]]:
    for child in root.__subclasses__():
        if child.__subclasses__():
            yield from _leaves(child)
        else:
            yield child


def test_every_error_but_a_refused_merge_is_somebodys_affair() -> None:
    unforeseen = {
        leaf
        for leaf in _leaves(errors.ProxyError)
        if leaf is not errors.MergeRefused and outcome_of_error(leaf("why")) == "proxy_error"
    }
    assert unforeseen == set()


def test_outcomes_are_listed_once() -> None:
    assert len(set(OUTCOMES)) == len(OUTCOMES) == 7
