"""Header fields: what separates batches, what is dropped, what forbids merging, what callers wish."""

from __future__ import annotations

import pytest

from proxy.batching.keys import NO_WISHES, HeaderRules, Wishes, shared_fields
from proxy.errors import MergeRefused

JSON = (b"Content-Type", b"application/json")


def key(*headers: tuple[bytes, bytes], isolate: tuple[str, ...] = ("authorization",)) -> object:
    return HeaderRules(isolate).read(headers)[0]


@pytest.mark.parametrize(
    "noise",
    [
        b"User-Agent",
        b"traceparent",
        b"X-Request-Id",
        b"X-Forwarded-For",
        b"Accept-Encoding",
        b"Sec-Fetch-Mode",
        b"via",
    ],
)
def test_noise_does_not_separate(noise: bytes) -> None:
    assert key(JSON, (noise, b"1")) == key(JSON) == ((b"content-type", b"application/json"),)


@pytest.mark.parametrize(
    "name",
    [
        b"X-Api-Key",
        b"Cookie",
        b"Host",
        b"Accept",
        b"X-Forwarded-User",
        b"X-Forwarded-Client-Cert",
        b"anything",
    ],
)
def test_fields_that_may_matter_separate(name: bytes) -> None:
    assert key((name, b"1")) != key((name, b"2"))


def test_order_and_case_of_names_do_not_matter() -> None:
    assert key(JSON, (b"Host", b"m")) == key((b"HOST", b"m"), (b"content-type", b"application/json"))


def test_a_repeated_field_counts_twice() -> None:
    assert key((b"X-A", b"1"), (b"X-A", b"2")) != key((b"X-A", b"1"))


def test_credentials_separate_unless_the_operator_says_otherwise() -> None:
    one, other = (b"Authorization", b"one"), (b"Authorization", b"other")
    assert key(one) != key(other)
    assert key(one, isolate=()) == key(other, isolate=()) == ()


def test_the_operator_can_isolate_noise() -> None:
    assert key((b"User-Agent", b"1"), isolate=("User-Agent",)) == ((b"user-agent", b"1"),)


def test_the_operator_can_ignore_fields_of_his_own() -> None:
    rules = HeaderRules((), ("X-Edge-Id",))
    assert rules.read(((b"x-edge-id", b"1"),)) == ((), NO_WISHES)


def test_the_tenant_is_what_is_isolated() -> None:
    rules = HeaderRules(("authorization", "x-team"))
    found, _ = rules.read((JSON, (b"X-Team", b"blue"), (b"Authorization", b"t")))
    assert rules.tenant(found) == ((b"authorization", b"t"), (b"x-team", b"blue"))


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ((b"Content-Encoding", b"gzip"), "encoded_body"),
        ((b"ce-id", b"1"), "cloud_event"),
        ((b"If-Match", b"*"), "conditional"),
        ((b"Range", b"bytes=0-"), "conditional"),
        ((b"Idempotency-Key", b"1"), "idempotency_key"),
        ((b"Content-MD5", b"x"), "signed_body"),
        ((b"Content-Digest", b"x"), "signed_body"),
        ((b"X-Hub-Signature-256", b"x"), "signed_body"),
        ((b"Prefer", b"respond-async"), "preference"),
        ((b"Content-Type", b"application/json; charset=utf-16"), "charset"),
        ((b"Content-Type", b'application/json; Charset="latin-1"; v=1'), "charset"),
    ],
)
def test_what_merging_would_break_is_refused_every_time(header: tuple[bytes, bytes], why: str) -> None:
    rules = HeaderRules(("authorization",))
    for _ in range(2):
        with pytest.raises(MergeRefused) as refusal:
            rules.read((header,))
        assert refusal.value.why == why


@pytest.mark.parametrize(
    "header",
    [
        (b"Content-Encoding", b"identity"),
        (b"Content-Type", b"application/json; charset=UTF-8"),
        (b"Content-Type", b"text/plain; charset=us-ascii"),
    ],
)
def test_what_changes_nothing_is_not_refused(header: tuple[bytes, bytes]) -> None:
    rules = HeaderRules(())
    assert rules.read((header,)) == rules.read((header,))


@pytest.mark.parametrize(
    ("header", "wishes"),
    [
        ((b"Pillion-Batch", b"off"), Wishes(is_off=True)),
        ((b"pillion-batch", b" OFF "), Wishes(is_off=True)),
        ((b"Pillion-Batch", b"on"), NO_WISHES),
        ((b"Pillion-Max-Wait", b"5ms"), Wishes(max_wait_s=0.005)),
        ((b"Pillion-Max-Wait", b"5"), NO_WISHES),
        ((b"Pillion-Max-Wait", b"\xff"), NO_WISHES),
        ((b"Priority", b"u=1, i"), Wishes(urgency=1)),
        ((b"Priority", b"i, u=7"), Wishes(urgency=7)),
        ((b"Priority", b"u=9"), NO_WISHES),
        ((b"Pillion-Debug", b"1"), NO_WISHES),
    ],
)
def test_wishes_are_heeded_and_travel_no_further(header: tuple[bytes, bytes], wishes: Wishes) -> None:
    assert HeaderRules(()).read((header,)) == ((), wishes)


def test_wishes_add_up() -> None:
    headers = ((b"Priority", b"u=0"), (b"Pillion-Max-Wait", b"1s"), (b"Pillion-Batch", b"off"))
    assert HeaderRules(()).read(headers)[1] == Wishes(is_off=True, max_wait_s=1.0, urgency=0)


def test_the_tables_that_clients_fill_are_bounded() -> None:
    rules = HeaderRules(())
    for number in range(3000):
        name, kind = b"x-%d" % number, b"text/%d" % number
        assert rules.read(((name, b"1"), (b"Content-Type", kind))) == (
            ((b"content-type", kind), (name, b"1")),
            NO_WISHES,
        )
    assert len(rules._names) <= 1024
    assert len(rules._media_types) <= 1024


def test_only_fields_that_concern_nobody_in_particular_are_shared() -> None:
    answer = (
        (b"Content-Type", b"application/json"),
        (b"Set-Cookie", b"a=1"),
        (b"ETag", b"x"),
        (b"X-Request-Id", b"1"),
        (b"Server", b"s"),
        (b"Content-Encoding", b"gzip"),
        (b"x-unknown", b"1"),
    )
    assert shared_fields(answer) == ((b"Content-Type", b"application/json"), (b"Server", b"s"))
