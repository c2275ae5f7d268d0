from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

from proxy.http2.blocks import TABLE_SIZE_ZERO, BlockReader, BlockWriter, encode_field, timeout_field
from proxy.http2.errors import ErrorCode, SessionError

if TYPE_CHECKING:
    from proxy.exchange import Headers

FIELDS: Headers = ((b":status", b"200"), (b"x-a", b"1"))


class Parser:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, fields: Headers) -> Headers:
        self.calls += 1
        return fields


@pytest.fixture
def parser() -> Parser:
    return Parser()


@pytest.fixture
def reader(parser: Parser) -> BlockReader[Headers]:
    return BlockReader(parser, 10_000)


def stable(*fields: tuple[bytes, bytes]) -> bytes:
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])


def test_a_block_that_leaves_the_table_alone_is_decoded_once(
    reader: BlockReader[Headers], parser: Parser
) -> None:
    block = stable(*FIELDS)
    assert reader.head(block) == reader.head(block) == FIELDS
    assert parser.calls == 1


def test_a_block_that_fills_the_table_is_decoded_each_time(
    reader: BlockReader[Headers], parser: Parser
) -> None:
    encoder = Encoder()
    filling, indexed, again = (encoder.encode(FIELDS) for _ in range(3))
    assert indexed == again
    assert [reader.head(block) for block in (filling, indexed, again)] == [FIELDS] * 3
    assert parser.calls == 2


def test_the_same_bytes_mean_another_field_after_an_addition(reader: BlockReader[Headers]) -> None:
    encoder = Encoder()
    reader.head(encoder.encode([(b"x-a", b"1")]))
    assert reader.head(b"\xbe") == ((b"x-a", b"1"),)
    reader.head(encoder.encode([(b"x-b", b"2")]))
    assert reader.head(b"\xbe") == ((b"x-b", b"2"),)


def test_the_same_bytes_mean_nothing_after_the_table_was_emptied(reader: BlockReader[Headers]) -> None:
    reader.head(Encoder().encode([(b"x-a", b"1")]))
    reader.head(b"\xbe")
    reader.head(TABLE_SIZE_ZERO + stable(*FIELDS))
    with pytest.raises(SessionError) as caught:
        reader.head(b"\xbe")
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_skipped_block_still_fills_the_table(reader: BlockReader[Headers]) -> None:
    reader.skip(Encoder().encode([(b"x-a", b"1")]))
    assert reader.head(b"\xbe") == ((b"x-a", b"1"),)


def test_what_is_kept_is_bounded(reader: BlockReader[Headers], parser: Parser) -> None:
    for number in range(600):
        reader.head(stable((b"x", b"%d" % number)))
    reader.head(stable((b"x", b"599")))
    assert parser.calls == 600
    reader.head(stable((b"x", b"0")))
    assert parser.calls == 601


def test_a_large_block_is_not_kept(reader: BlockReader[Headers], parser: Parser) -> None:
    block = stable((b"x", b"?" * 4000))
    reader.head(block)
    reader.head(block)
    assert parser.calls == 2


def test_trailers_are_kept_apart_from_heads(reader: BlockReader[Headers]) -> None:
    block = stable((b"grpc-status", b"0"))
    assert reader.trailers(block) == reader.trailers(block) == ((b"grpc-status", b"0"),)


@pytest.mark.parametrize(
    "field",
    [
        (b":method", b"POST"),
        (b":status", b"204"),
        (b"content-type", b"application/grpc"),
        (b"x-long", b"v" * 5000),
        (b"n" * 300, b""),
        (b"x-bin", bytes(range(0x80, 0x100))),
    ],
)
def test_fields_decode_to_themselves(field: tuple[bytes, bytes]) -> None:
    assert [tuple(found) for found in Decoder().decode(encode_field(*field), raw=True)] == [field]


def test_literals_are_never_indexed() -> None:
    (header,) = Decoder().decode(encode_field(b"authorization", b"secret"), raw=True)
    assert not header.indexable


def test_a_request_names_its_authority_once_and_in_lower_case() -> None:
    writer = BlockWriter()
    block = writer.request(b"GET", b"http", b"/p?q", ((b"Host", b"a"), (b"X-Y", b"1"), (b"host", b"b")))
    assert [tuple(found) for found in Decoder().decode(block, raw=True)] == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/p?q"),
        (b":authority", b"a"),
        (b"x-y", b"1"),
        (b"te", b"trailers"),
    ]


def test_what_differs_with_each_call_is_not_kept() -> None:
    writer = BlockWriter()
    for number in range(3):
        given = (
            (b"host", b"a"),
            (b"x-y", b"1"),
            (b"X-Request-Id", b"%d" % number),
            (b"traceparent", b"00-%d" % number),
        )
        found = [
            tuple(field) for field in Decoder().decode(writer.request(b"GET", b"http", b"/", given), raw=True)
        ]
        assert sorted(found[4:]) == sorted([
            (b"te", b"trailers"), (b"traceparent", b"00-%d" % number), (b"x-request-id", b"%d" % number), (b"x-y", b"1")
        ])  # fmt: skip
    assert len(writer._blocks) == 1


def test_equal_content_is_encoded_once() -> None:
    writer = BlockWriter()
    assert writer.response(200, FIELDS[1:]) is writer.response(200, FIELDS[1:])
    assert writer.response(200, ((b"x", b"v" * 3000),)) == writer.response(200, ((b"x", b"v" * 3000),))


def test_a_writer_is_bounded() -> None:
    writer = BlockWriter()
    for number in range(1200):
        value = b"%d" % number
        found = Decoder().decode(writer.trailers(((b"x", value),)), raw=True)
        assert [tuple(field) for field in found] == [(b"x", value)]


def test_timeout() -> None:
    (found,) = Decoder().decode(timeout_field(0.25), raw=True)
    assert tuple(found) == (b"grpc-timeout", b"250000u")


def test_what_was_made_of_a_tuple_is_found_by_its_identity() -> None:
    writer = BlockWriter()
    fields = FIELDS[1:]
    assert writer.response(200, fields) is writer.response(200, fields)
    assert writer.response(404, fields) != writer.response(200, fields)
    assert writer.trailers(fields) is writer.trailers(fields)
    line = (b"GET", b"http", b"/")
    assert writer.request(*line, fields) is writer.request(*line, fields)
    assert writer.request(b"PUT", b"http", b"/", fields) != writer.request(*line, fields)


@pytest.mark.parametrize("value", [b"short", b"v" * 200])
def test_a_calls_own_fields_follow_those_it_shares(value: bytes) -> None:
    own = ((b"X-Request-Id", value), (b"tracestate", value))
    wire = BlockWriter().request(b"GET", b"http", b"/", ((b"host", b"a"),), own)
    found = [tuple(field) for field in Decoder().decode(wire, raw=True)]
    assert found[-2:] == [(b"x-request-id", value), (b"tracestate", value)]


def test_a_head_that_no_other_block_says_is_not_kept() -> None:
    seen: list[object] = []

    def parse(fields: Headers) -> Headers:
        seen.append(fields)
        return fields

    blocks = BlockReader(parse, 10_000, lambda fields: len(fields) > 1)
    shared = encode_field(b"a", b"1")
    for _ in range(2):
        blocks.head(shared)
        blocks.head(shared + encode_field(b"x-request-id", b"7"))
    assert len(seen) == 3
