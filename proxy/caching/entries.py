"""One kept answer, and its sealed form outside of this process.

Theory of operation ------------------- An `Entry` is what a hit needs and no more: fields that say nothing
about any one caller, the body without a caller's id, and the instants of its `Lifespan`, in seconds since the
epoch because stores outlive processes and are shared between machines.

`Seal` writes an entry as MessagePack (data only: reading it can build nothing but an `Entry`, whereas a
pickle runs what it is told) behind a BLAKE3 tag over the key and the bytes. With a secret the tag is keyed:
whoever can write to the store but does not know the secret cannot make an answer that is accepted, and
binding the key keeps an entry from being moved to another question. Without a secret the tag still finds
truncated and damaged entries. Whatever does not open is reported as `BadSeal` and treated as absent; so are
all entries after the secret was changed.

`cost` estimates what an entry occupies in memory, from above: eviction obeys this number, and a test compares
it with the process's resident size."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec
from blake3 import blake3

__all__ = ("BadSeal", "Entry", "Seal")

_CONTEXT: Final = "pillion 2026 cache entry seal"
_TAG_BYTES: Final = 16
_ENTRY_BYTES: Final = (
    640  # the object, its key, its places in two tables and the heap, the allocator's rounding
)
_FIELD_BYTES: Final = 176  # a tuple and two bytes objects, beside their contents

Fields = tuple[tuple[bytes, bytes], ...]


class BadSeal(Exception):
    """Bytes that are not an entry of ours, or not for this key."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An answer with status 200. Instants are seconds since the epoch; see `Lifespan`."""

    model: str
    reason: bytes
    headers: Fields
    body: bytes
    made_at: float
    fresh_until: float
    revalidate_until: float
    error_until: float

    @property
    def dead_at(self) -> float:
        """The instant after which it is of no use at all."""
        return max(self.fresh_until, self.revalidate_until, self.error_until)

    @property
    def cost(self) -> int:
        """Bytes that it occupies in memory, estimated from above."""
        fields = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
        return _ENTRY_BYTES + len(self.body) + len(self.reason) + fields


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Seal:
    """Writes and reads entries for stores outside of this process."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str = "") -> None:
        self._secret = blake3(secret.encode(), derive_key_context=_CONTEXT).digest() if secret else None

    def close(self, key: str, entry: Entry) -> bytes:
        """`entry` as bytes that only `open` with the same key and secret accepts."""
        data = _encode(entry)
        return self._tag(key, data) + data

    def open(self, key: str, sealed: bytes) -> Entry:
        """The entry in `sealed`; raises `BadSeal`."""
        tag, data = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(key, data)):
            raise BadSeal("not signed with this secret for this key")
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise BadSeal(str(error)) from None

    def _tag(self, key: str, data: bytes) -> bytes:
        text = b"%d:%b%b" % (len(key), key.encode(), data)
        digest = blake3(text) if self._secret is None else blake3(text, key=self._secret)
        return digest.digest(_TAG_BYTES)
