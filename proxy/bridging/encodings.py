"""Bodies that a client has compressed, as they were before: gRPC has no header field that could say so.

Theory of operation
-------------------
``gzip`` and ``deflate`` (with zlib's header, as RFC 9110 has it) are undone; several gzip members in a row
are one body. What comes out is bounded: four megabytes are always granted, beyond them a hundred times what
went in, and never more than `MOST`. A small request must not become a large one.
"""

from __future__ import annotations

import zlib
from typing import Final

from proxy.errors import BadRequest, BodyTooLarge

__all__ = ("MOST", "decoded")

MOST: Final = 64 << 20
"""Bytes of one body."""
_MOST_RATIO: Final = 100
_ALWAYS: Final = 4 << 20
_WINDOWS: Final = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


def decoded(body: bytes, encoding: bytes | None) -> bytes:
    """`body` without its content encoding; raises `BadRequest`, or `BodyTooLarge`."""
    if encoding is None or encoding.lower() == b"identity":
        return body
    window = _WINDOWS.get(encoding.lower())
    if window is None:
        name = encoding.decode("latin-1")
        raise BadRequest(f"a body with the encoding {name} cannot be translated to gRPC")
    left = min(MOST, max(_ALWAYS, _MOST_RATIO * len(body)))
    whole = []
    while True:
        inflater = zlib.decompressobj(window)
        try:
            whole.append(inflater.decompress(body, left + 1))
        except zlib.error as error:
            raise BadRequest(f"the body is not what its encoding says: {error}") from None
        left -= len(whole[-1])
        if left < 0:
            raise BodyTooLarge("the decoded request is too large to be translated to gRPC")
        if not inflater.eof:
            raise BadRequest("the body is not what its encoding says: it is cut short")
        body = inflater.unused_data
        if not body:
            return b"".join(whole)
