"""Header blocks: HPACK both ways (RFC 7541), paid for once for each distinct block.

Theory of operation
-------------------
A client that calls one method of one service sends nearly the same header block each time, and a backend's
answers differ even less. So both directions are caches in front of a slow path.

Inward, `BlockReader` decodes a block (2 to 8 microseconds for a gRPC request) and keeps what it *meant*, a
parsed and validated head, under the block's bytes. That is sound only while the
same bytes mean the same thing, hence two rules: a block that adds to the dynamic table or resizes it is never
kept, and when one arrives everything kept is dropped, because an index may now name another field. Clients
fill the table with their first requests and then leave it alone; from there on a head costs one dict lookup
(0.1 microseconds). A head with fields of its call's own is not kept: its block does not come again.

Outward, `BlockWriter` never uses the peer's dynamic table: it encodes each field as an index into the static
table or as a literal, so that a block depends on nothing but its content, may be kept by it, and one writer
can serve any number of connections. The literals are of the never-indexed kind: an intermediary must keep
that mark where the sender set it (RFC 7541 §6.2.3) and a `Headers` tuple does not say which fields carried
it. The first block on each connection must start with `TABLE_SIZE_ZERO`, which tells the peer's decoder that
our table is empty; with that, no SETTINGS_HEADER_TABLE_SIZE of the peer's concerns us any more (RFC 7541
§4.2).

A head that many calls share comes as one tuple, and so does an answer's; hashing a tuple of a dozen fields
costs more than writing the rest of the call. What was made of a tuple is therefore found by its identity
first, and only then by its content.

All caches are bounded in entries and in the size of what they keep, and start afresh when full: a peer that
varies its fields on purpose makes us as slow as without them, never larger.

A decoding error is a connection error: the two tables can no longer be known to agree (RFC 9113 §4.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from proxy.http2.errors import ErrorCode, SessionError, StreamError
from proxy.http2.grpc import format_timeout
from proxy.http2.headers import parse_trailers
from proxy.http2.hpack import STATIC_TABLE, Decoder, HpackError, OversizedList, is_over
from proxy.http2.limits import HEADER_SLACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Headers

__all__ = ("TABLE_SIZE_ZERO", "BlockReader", "BlockWriter", "encode_field", "timeout_field")

Head = TypeVar("Head")

TABLE_SIZE_ZERO: Final = b"\x20"
"""Dynamic table size update to 0 (RFC 7541 §6.3)."""

_MAX_ENTRIES: Final = 512
_MAX_KEPT_BLOCK: Final = 2048
_MAX_KEPT_FIELD: Final = 256
_NEVER_INDEXED: Final = 0x10
# Fields with another value in each call, which the listeners add last and spell so: their encoded names.
_FRESH_NAMES: Final = {
    b"traceparent": b"\x10\x0btraceparent",
    b"X-Request-Id": b"\x10\x0cx-request-id",
}
_TIMEOUT_NAME: Final = b"\x10\x0cgrpc-timeout"
_LENGTHS: Final = tuple(bytes((length,)) for length in range(0x7F))

_STATIC_FIELDS: Final = {
    field: index for index, field in reversed(tuple(enumerate(STATIC_TABLE, 1))) if field[1]
}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed(tuple(enumerate(STATIC_TABLE, 1)))}


class BlockReader(Generic[Head]):
    """The decoding half of one connection; `parse` turns a decoded field list into a head.

    `max_list_size` bounds a header list after decoding, in bytes as RFC 9113 §6.5.2 counts them. A longer one
    costs its stream, one that is `HEADER_SLACK` times as long the connection. Raises `SessionError` for a
    block that cannot be decoded, and whatever `parse` raises for one that can. A head that `is_unique` is not
    expected to come again, and not kept.
    """

    __slots__ = ("_decoder", "_heads", "_is_unique", "_most", "_parse", "_trailers")

    def __init__(
        self,
        parse: Callable[[Headers], Head],
        max_list_size: int,
        is_unique: Callable[[Head], bool] | None = None,
    ) -> None:
        self._parse = parse
        self._is_unique = is_unique or _never
        self._most = max_list_size
        self._decoder = Decoder(HEADER_SLACK * max_list_size)
        self._heads: dict[bytes, Head] = {}
        self._trailers: dict[bytes, Headers] = {}

    def head(self, block: bytes) -> Head:
        """What the block that opens a message says."""
        known = self._heads.get(block)
        if known is not None:
            return known
        head, is_stable = self._read(block, self._parse)
        if is_stable and not self._is_unique(head):
            _keep(self._heads, block, head)
        return head

    def trailers(self, block: bytes) -> Headers:
        """What the block that ends a message says."""
        known = self._trailers.get(block)
        if known is not None:
            return known
        fields, is_stable = self._read(block, parse_trailers)
        if is_stable:
            _keep(self._trailers, block, fields)
        return fields

    def skip(self, block: bytes) -> None:
        """Decode for the table's sake only: the stream is gone."""
        self._decode(block)

    def _read(self, block: bytes, parse: Callable[[Headers], Kept]) -> tuple[Kept, bool]:
        """What `block` says, and whether it says so every time."""
        fields, is_stable = self._decode(block)
        if is_over(self._most, fields, len(block)):
            raise StreamError(ErrorCode.ENHANCE_YOUR_CALM, f"header list is over {self._most} bytes")
        return parse(fields), is_stable

    def _decode(self, block: bytes) -> tuple[Headers, bool]:
        """The fields, and whether the dynamic table is as it was before."""
        decoder = self._decoder
        changes = decoder.changes
        try:
            fields = tuple(decoder.decode(block))
        except OversizedList as excess:
            raise SessionError(ErrorCode.ENHANCE_YOUR_CALM, str(excess)) from None
        except HpackError as error:
            raise SessionError(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        if decoder.changes == changes:
            return fields, True
        if self._heads or self._trailers:
            self._heads.clear()
            self._trailers.clear()
        return fields, False


Kept = TypeVar("Kept")


def _keep(cache: dict[bytes, Kept], block: bytes, parsed: Kept) -> None:
    if len(block) <= _MAX_KEPT_BLOCK:
        if len(cache) >= _MAX_ENTRIES:
            cache.clear()
        cache[block] = parsed


def _never(_head: object) -> bool:
    return False


class BlockWriter:
    """The encoding half, shared by any number of connections."""

    __slots__ = ("_blocks", "_fields", "_known")

    def __init__(self) -> None:
        self._blocks: dict[object, bytes] = {}
        self._fields: dict[tuple[bytes, bytes], bytes] = {}
        self._known: dict[int, tuple[Headers, object, bytes]] = {}

    def response(self, status: int, headers: Headers) -> bytes:
        """The block that opens an answer."""
        known = self._known.get(id(headers))
        if known is not None and known[0] is headers and known[1] == status:
            return known[2]
        key = (status, headers)
        block = self._blocks.get(key) or self._keep(
            key, encode_field(b":status", b"%d" % status) + self._encode(headers)
        )
        return self._know(headers, status, block)

    def request(
        self, method: bytes, scheme: bytes, target: bytes, headers: Headers, own: Headers = ()
    ) -> bytes:
        """The block that opens a request with `headers`, which may be many calls', and its `own`.

        A ``host`` field becomes ``:authority``, and ``te`` says that trailers are welcome, as gRPC demands.
        """
        line = (target, method, scheme)
        known = self._known.get(id(headers))
        if known is not None and known[0] is headers and known[1] == line:
            block = known[2]
        else:
            block = self._know(headers, line, self._request(method, scheme, target, headers))
        for name, value in own:
            prefix = _FRESH_NAMES.get(name)
            if prefix is not None and len(value) < 0x7F:
                block += prefix + _LENGTHS[len(value)] + value
            else:
                block += encode_field(name, value)
        return block

    def _request(self, method: bytes, scheme: bytes, target: bytes, headers: Headers) -> bytes:
        stable, fresh = headers, b""
        while stable and (name := _FRESH_NAMES.get(stable[-1][0])) is not None:
            fresh += name + _string(stable[-1][1])
            stable = stable[:-1]
        key = (method, scheme, target, stable)
        return (self._blocks.get(key) or self._keep(key, self._encode_request(*key))) + fresh

    def trailers(self, headers: Headers) -> bytes:
        """The block that ends a message; also a piece to append to another block."""
        known = self._known.get(id(headers))
        if known is not None and known[0] is headers and known[1] is None:
            return known[2]
        block = self._blocks.get(headers) or self._keep(headers, self._encode(headers))
        return self._know(headers, None, block)

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

    def _know(self, headers: Headers, of: object, block: bytes) -> bytes:
        """Find `block` by the identity of `headers`, where the same tuple comes again; it is kept alive."""
        if headers and len(block) <= _MAX_KEPT_BLOCK:
            if len(self._known) >= _MAX_ENTRIES:
                self._known.clear()
            self._known[id(headers)] = (headers, of, block)
        return block

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
    length = len(text)
    return (_LENGTHS[length] if length < len(_LENGTHS) else _integer(length, 7, 0)) + text


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
