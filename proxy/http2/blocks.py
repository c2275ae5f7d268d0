"""Header blocks: HPACK both ways (RFC 7541), paid for once for each distinct block.

Theory of operation
-------------------
A client that calls one method of one service sends nearly the same header block each time, and a backend's
answers differ even less. So both directions are caches in front of a slow path.

Inward, `BlockReader` decodes with the `hpack` library (some 20 microseconds for a gRPC request) and keeps
what the block *meant*, a parsed and validated head, under the block's bytes. That is sound only while the
same bytes mean the same thing, hence two rules: a block that adds to the dynamic table or resizes it is never
kept, and when one arrives everything kept is dropped, because an index may now name another field. Clients
fill the table with their first requests and then leave it alone; from there on a head costs one dict lookup
(0.1 microseconds).

Outward, `BlockWriter` never uses the peer's dynamic table: it encodes each field as an index into the static
table or as a literal, so that a block depends on nothing but its content, may be kept by it, and one writer
can serve any number of connections. The literals are of the never-indexed kind: an intermediary must keep
that mark where the sender set it (RFC 7541 §6.2.3) and a `Headers` tuple does not say which fields carried
it. The first block on each connection must start with `TABLE_SIZE_ZERO`, which tells the peer's decoder that
our table is empty; with that, no SETTINGS_HEADER_TABLE_SIZE of the peer's concerns us any more (RFC 7541
§4.2).

Both caches are bounded in entries and in the size of what they keep, and start afresh when full: a peer that
varies its fields on purpose makes us as slow as without them, never larger.

A decoding error is a connection error: the two tables can no longer be known to agree (RFC 9113 §4.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from proxy.http2.errors import ErrorCode, SessionError
from proxy.http2.grpc import format_timeout
from proxy.http2.headers import parse_trailers

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers

__all__ = ("TABLE_SIZE_ZERO", "BlockReader", "BlockWriter", "encode_field", "timeout_field")

Head = TypeVar("Head")

TABLE_SIZE_ZERO = b"\x20"
"""Dynamic table size update to 0 (RFC 7541 §6.3)."""

_MAX_ENTRIES = 512
_MAX_KEPT_BLOCK = 2048
_MAX_KEPT_FIELD = 256
_NEVER_INDEXED = 0x10
# Fields with another value in each call, which the listeners add last and spell so: their encoded names.
_FRESH_NAMES = {
    b"traceparent": b"\x10\x0btraceparent",
    b"X-Request-Id": b"\x10\x0cx-request-id",
}
_TIMEOUT_NAME = b"\x10\x0cgrpc-timeout"

_STATIC_FIELDS = {
    field: index for index, field in reversed(tuple(enumerate(HeaderTable.STATIC_TABLE, 1))) if field[1]
}
_STATIC_NAMES = {field[0]: index for index, field in reversed(tuple(enumerate(HeaderTable.STATIC_TABLE, 1)))}


class _WatchedTable(HeaderTable):
    """A table that counts its additions."""

    def __init__(self) -> None:
        super().__init__()
        self.additions = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.additions += 1
        super().add(name, value)


class BlockReader(Generic[Head]):
    """The decoding half of one connection; `parse` turns a decoded field list into a head.

    `max_list_size` bounds a header list after decoding, in bytes as RFC 9113 §6.5.2 counts them.
    Raises `SessionError` for a block that cannot be decoded, and whatever `parse` raises for one that can.
    """

    __slots__ = ("_decoder", "_heads", "_parse", "_table", "_trailers")

    def __init__(self, parse: Callable[[Headers], Head], max_list_size: int) -> None:
        self._parse = parse
        self._decoder = Decoder(max_list_size)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._heads: dict[bytes, Head] = {}
        self._trailers: dict[bytes, Headers] = {}

    def head(self, block: bytes) -> Head:
        """What the block that opens a message says."""
        head = self._heads.get(block)
        return self._read(block, self._parse, self._heads) if head is None else head

    def trailers(self, block: bytes) -> Headers:
        """What the block that ends a message says."""
        fields = self._trailers.get(block)
        return self._read(block, parse_trailers, self._trailers) if fields is None else fields

    def skip(self, block: bytes) -> None:
        """Decode for the table's sake only: the stream is gone."""
        self._decode(block)

    def _read(self, block: bytes, parse: Callable[[Headers], Kept], cache: dict[bytes, Kept]) -> Kept:
        fields, is_stable = self._decode(block)
        parsed = parse(fields)
        if is_stable and len(block) <= _MAX_KEPT_BLOCK:
            if len(cache) >= _MAX_ENTRIES:
                cache.clear()
            cache[block] = parsed
        return parsed

    def _decode(self, block: bytes) -> tuple[Headers, bool]:
        """The fields, and whether the dynamic table is as it was before."""
        additions = self._table.additions
        try:
            fields = tuple(
                (bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)
            )
        except OversizedHeaderListError:
            why = f"header list is over {self._decoder.max_header_list_size} bytes"
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, why) from None
        except HPACKError as error:
            raise SessionError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        is_stable = self._table.additions == additions and not _resizes(block)
        if not is_stable:
            self._heads.clear()
            self._trailers.clear()
        return fields, is_stable


Kept = TypeVar("Kept")


def _resizes(block: bytes) -> bool:
    """Whether the block starts with a table size update; the decoder refuses one anywhere else."""
    return bool(block) and block[0] & 0xE0 == 0x20


class BlockWriter:
    """The encoding half, shared by any number of connections."""

    __slots__ = ("_blocks", "_fields")

    def __init__(self) -> None:
        self._blocks: dict[object, bytes] = {}
        self._fields: dict[tuple[bytes, bytes], bytes] = {}

    def response(self, status: int, headers: Headers) -> bytes:
        """The block that opens an answer."""
        key = (status, headers)
        return self._blocks.get(key) or self._keep(
            key, encode_field(b":status", b"%d" % status) + self._encode(headers)
        )

    def request(self, method: bytes, scheme: bytes, target: bytes, headers: Headers) -> bytes:
        """The block that opens a request.

        A ``host`` field becomes ``:authority``, and ``te`` says that trailers are welcome, as gRPC demands.
        """
        stable, fresh = headers, b""
        while stable and (name := _FRESH_NAMES.get(stable[-1][0])) is not None:
            fresh += name + _string(stable[-1][1])
            stable = stable[:-1]
        key = (method, scheme, target, stable)
        return (self._blocks.get(key) or self._keep(key, self._encode_request(*key))) + fresh

    def trailers(self, headers: Headers) -> bytes:
        """The block that ends a message; also a piece to append to another block."""
        return self._blocks.get(headers) or self._keep(headers, self._encode(headers))

    def _encode_request(self, method: bytes, scheme: bytes, target: bytes, headers: Headers) -> bytes:
        hosts = [value for name, value in headers if name.lower() == b"host"][:1]
        regular = [field for field in headers if field[0].lower() != b"host"]
        return self._encode((
            (b":method", method),
            (b":scheme", scheme),
            (b":path", target),
            *((b":authority", host) for host in hosts),
            *regular,
            (b"te", b"trailers"),
        ))  # fmt: skip

    def _keep(self, key: object, block: bytes) -> bytes:
        if len(block) <= _MAX_KEPT_BLOCK:
            if len(self._blocks) >= _MAX_ENTRIES:
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def _encode(self, headers: Headers) -> bytes:
        fields = self._fields
        parts = []
        for field in headers:
            encoded = fields.get(field)
            if encoded is None:
                encoded = encode_field(*field)
                if len(encoded) <= _MAX_KEPT_FIELD:
                    if len(fields) >= _MAX_ENTRIES:
                        fields.clear()
                    fields[field] = encoded
            parts.append(encoded)
        return b"".join(parts)


def encode_field(name: bytes, value: bytes) -> bytes:
    """One field, without the dynamic table; the name is lowered (RFC 9113 §8.2.1)."""
    name = name.lower()
    index = _STATIC_FIELDS.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _integer(index, 4, _NEVER_INDEXED) + _string(value)
    return bytes((_NEVER_INDEXED,)) + _string(name) + _string(value)


def timeout_field(seconds: float) -> bytes:
    """``grpc-timeout`` for a span, to append to a request's block: it differs with each call."""
    return _TIMEOUT_NAME + _string(format_timeout(seconds))


def _string(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


def _integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """RFC 7541 §5.1."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((pattern | value,))
    octets = [pattern | most]
    value -= most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
