"""The decoder beside the `hpack` library's, and what it refuses."""

from __future__ import annotations

import pytest
from hpack import Decoder as Reference
from hpack import Encoder, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http2.hpack import STATIC_TABLE, Decoder, HpackError, OversizedList

LARGE = 1 << 20
texts = st.text(st.characters(codec="latin-1"), max_size=40) | st.sampled_from(
    ("a", "grpc-timeout", "x" * 4090)
)
fields = st.lists(st.tuples(texts, texts, st.booleans()), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(fields, st.booleans(), st.sampled_from((None, 0, 100, 4096))), max_size=8))
def test_it_reads_what_the_library_reads(
    blocks: list[tuple[list[tuple[str, str, bool]], bool, int | None]],
) -> None:
    encoder, reference, decoder = Encoder(), Reference(LARGE), Decoder(LARGE)
    for listed, is_huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(
            [
                NeverIndexedHeaderTuple(name.encode("latin-1"), value.encode("latin-1"))
                if is_secret
                else (name.encode("latin-1"), value.encode("latin-1"))
                for name, value, is_secret in listed
            ],
            huffman=is_huffman,
        )
        expected = [(bytes(name), bytes(value)) for name, value in reference.decode(block, raw=True)]
        assert decoder.decode(block) == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_it_refuses_what_the_library_refuses(block: bytes) -> None:
    try:
        expected = [(bytes(name), bytes(value)) for name, value in Reference(LARGE).decode(block, raw=True)]
    except Exception:  # noqa: BLE001 - the library lets IndexError and others through
        with pytest.raises(HpackError):
            Decoder(LARGE).decode(block)
    else:
        assert Decoder(LARGE).decode(block) == expected


def test_a_reference_brings_the_strings_of_the_entry_and_no_copies() -> None:
    decoder = Decoder(LARGE)
    ((name, value),) = decoder.decode(b"\x40\x02ab\x02cd")
    for again in (decoder.decode(b"\xbe"), decoder.decode(b"\xbe")):
        assert again[0][0] is name
        assert again[0][1] is value
    assert decoder.decode(b"\x82")[0][1] is STATIC_TABLE[1][1]


def test_changes_count_what_moves_the_indices() -> None:
    decoder = Decoder(LARGE)
    decoder.decode(b"\x82\x10\x01a\x01b")
    assert decoder.changes == 0
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x20")
    assert decoder.changes == 2


def test_the_table_forgets_its_oldest_entry() -> None:
    decoder = Decoder(LARGE)
    decoder.decode(b"\x3f\x29\x40\x01a\x01b\x40\x01c\x01d")  # room for 72 bytes: two entries of 34
    assert decoder.decode(b"\xbe\xbf") == [(b"c", b"d"), (b"a", b"b")]
    decoder.decode(b"\x40\x01e\x01f")
    assert decoder.decode(b"\xbe\xbf") == [(b"e", b"f"), (b"c", b"d")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xc0")


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\x40",
        b"\x40\x05abc",
        b"\xff",
        b"\xff\x80\x80\x80\x80\x80\x80\x01",
        b"\xff\xff\xff\xff\xff\x01",
        b"\x82\x20",
        b"\x3f\xe2\x1f",
        b"\x10\x01a\x81\x00",
        b"\x10\x01a\x84\xff\xff\xff\xff",
        b"\x7e\x01a",
        b"\xbe",
    ],
)
def test_what_it_refuses(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder(LARGE).decode(block)


def test_a_long_code_is_not_remembered() -> None:
    text = b"0" * 300
    block = Encoder().encode([(b"x", text)], huffman=True)
    assert Decoder(LARGE).decode(block) == [(b"x", text)]


def test_a_list_is_bounded_after_decoding() -> None:
    decoder = Decoder(20 * 34)
    decoder.decode(b"\x40\x01a\x01b" + b"\xbe" * 19)
    with pytest.raises(OversizedList):
        decoder.decode(b"\xbe" * 21)


def test_an_entry_far_down_the_table_is_named_by_more_than_one_octet() -> None:
    ours, library = Decoder(1 << 20), Encoder()
    for number in range(90):
        ours.decode(library.encode([(b"n%d" % number, b"v")], huffman=False))
    block = library.encode([(b"n%d" % number, b"v") for number in (5, 88, 20, 89)], huffman=False)
    assert ours.decode(block) == [(b"n%d" % number, b"v") for number in (5, 88, 20, 89)]
    assert block[0] == 0xFF
    with pytest.raises(HpackError):
        ours.decode(b"\xff\x7f")
