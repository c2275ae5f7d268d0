from __future__ import annotations

from proxy.pooling.addresses import AddressBook


def book(*addresses: str) -> AddressBook:
    made = AddressBook()
    made.replace(addresses)
    return made


def test_dials_start_at_another_address_each_time() -> None:
    names = book("a", "b", "c")
    assert [names.order()[0] for _ in range(4)] == ["a", "b", "c", "a"]
    assert sorted(names.order()) == ["a", "b", "c"]


def test_an_address_that_refused_is_tried_last() -> None:
    names = book("::1", "127.0.0.1")
    names.dialed("::1", is_open=False)
    assert [names.order() for _ in range(3)] == [["127.0.0.1", "::1"]] * 3


def test_an_address_that_answers_again_is_back_in_turn() -> None:
    names = book("a", "b")
    names.dialed("a", is_open=False)
    names.dialed("a", is_open=True)
    assert {names.order()[0] for _ in range(2)} == {"a", "b"}


def test_all_refused_are_still_tried() -> None:
    names = book("a", "b")
    names.dialed("a", is_open=False)
    names.dialed("b", is_open=False)
    assert names.order() == ["a", "b"]


def test_a_new_resolution_names_what_is_gone() -> None:
    names = book("a", "b")
    assert names.replace(["b", "c", "b"]) == {"a"}
    assert names.addresses == ("b", "c")


def test_an_empty_resolution_is_ignored() -> None:
    names = book("a")
    assert names.replace([]) == frozenset()
    assert names.addresses == ("a",)


def test_a_refusal_is_forgotten_with_its_address() -> None:
    names = book("a", "b")
    names.dialed("a", is_open=False)
    names.replace(["b"])
    names.replace(["a", "b"])
    assert {names.order()[0] for _ in range(2)} == {"a", "b"}


def test_nothing_resolved_is_nothing_to_dial() -> None:
    assert AddressBook().order() == []
