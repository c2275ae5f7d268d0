"""Who may call: API keys, of which only the digests are known here (pure).

Theory of operation
-------------------
The configuration holds SHA-256 digests, so that neither a file nor a dump of it gives a key away; keys are
random and long, which is why a plain digest is enough. A caller shows its key as ``Authorization: Bearer``.
Its digest is compared with every accepted one in constant time, whichever matches, so that the time of an
answer says nothing.

The key ends here: the field is not forwarded. What goes on is the digest as the caller's identity, which
keeps the calls of two callers apart wherever calls are merged.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from proxy.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("KeyRing",)


class KeyRing:
    """The accepted keys, by their SHA-256 in hexadecimal."""

    __slots__ = ("_digests",)

    def __init__(self, digests: Iterable[str]) -> None:
        self._digests = tuple(bytes.fromhex(digest) for digest in digests)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def identify(self, values: list[bytes] | None) -> bytes:
        """The digest of the key in the `Authorization` field's values; raises `Unauthorized`."""
        if values is None or len(values) != 1:
            raise Unauthorized("an API key is required")
        scheme, _, key = values[0].partition(b" ")
        shown = hashlib.sha256(key.strip(b" ")).digest()
        accepted = [hmac.compare_digest(shown, digest) for digest in self._digests]
        if scheme.lower() != b"bearer" or not any(accepted):
            raise Unauthorized("the API key is not accepted")
        return shown
