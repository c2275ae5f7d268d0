"""Encoding an answer while it is streamed (pure).

Theory of operation
-------------------
Encoding is the operator's choice, never the default: it costs the proxy's core what it saves on the wire,
and beside the model on one host there is no wire. Where it is on, an answer is encoded only if nothing
forbids it:

* the client accepts one of our codings (RFC 9110 §12.5.3: the highest weight wins, ours breaks ties by how
  well it does at this speed: zstd, br, gzip; ``q=0`` and ``identity`` are respected);
* the body is text of some kind, is not encoded already and is not a part of something (206,
  ``Content-Range``);
* nobody said ``no-transform`` (RFC 9111 §5.2.2.6).

The encoded answer is another representation: its length is unknown, its ``ETag`` becomes weak, ranges are
not offered, and ``Vary`` says what the choice depended on, also where the choice was not to encode.

**Nothing is held back.** After each piece the encoder is flushed, so the client can decode every byte that
the backend has sent. That costs a few bytes for each event (about 5 with gzip, 3 with zstd, 1 with br).
Windows are small: a chat does not repeat itself over megabytes, and the memory is per stream (gzip 130 KB,
br 200 KB, zstd 310 KB, measured for these settings).
"""

from __future__ import annotations

import zlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("CODINGS", "Encoder", "choose_coding", "encoded_headers", "encoder", "may_encode")

_TEXTS: Final = frozenset(
    b"""application/json application/x-ndjson application/ndjson application/jsonl application/stream+json
    application/javascript application/xml application/problem+json application/openmetrics-text""".split()
)
_WINDOW_BITS: Final = 15


class Encoder(Protocol):
    """One stream's state."""

    def feed(self, data: bytes) -> bytes:
        """The encoded bytes from which the client gets all of `data`."""

    def finish(self) -> bytes:
        """The end of the encoded body."""


class _Gzip:
    def __init__(self) -> None:
        self._deflate = zlib.compressobj(4, zlib.DEFLATED, 16 + _WINDOW_BITS, 7)

    def feed(self, data: bytes) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self) -> None:
        import brotli  # noqa: PLC0415  optional: the extra `compress`

        self._brotli: Any = brotli.Compressor(quality=3, lgwin=_WINDOW_BITS + 1)

    def feed(self, data: bytes) -> bytes:
        encoded: bytes = self._brotli.process(data) + self._brotli.flush()
        return encoded

    def finish(self) -> bytes:
        encoded: bytes = self._brotli.finish()
        return encoded


class _Zstandard:
    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415  optional: the extra `compress`

        parameters = zstandard.ZstdCompressionParameters.from_level(2, window_log=_WINDOW_BITS + 1)
        self._zstd = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def feed(self, data: bytes) -> bytes:
        return self._zstd.compress(data) + self._zstd.flush(self._flush)

    def finish(self) -> bytes:
        return self._zstd.flush()


_ENCODERS: Final[dict[bytes, type[_Gzip | _Brotli | _Zstandard]]] = {
    b"zstd": _Zstandard,
    b"br": _Brotli,
    b"gzip": _Gzip,
}
_MODULES: Final = {b"zstd": "zstandard", b"br": "brotli", b"gzip": "zlib"}
CODINGS: Final = tuple(name for name in _ENCODERS if find_spec(_MODULES[name]) is not None)
"""What can be encoded here, the best first."""


def encoder(coding: bytes) -> Encoder:
    """A fresh encoder for `coding`, one of `CODINGS`."""
    return _ENCODERS[coding]()


def may_encode(status: int, headers: Headers, media: bytes) -> bool:
    """True when an answer with `headers` and the media type `media` may be encoded on the way."""
    if status in {204, 206, 304} or not (media.startswith(b"text/") or media in _TEXTS):
        return False
    for name, value in headers:
        lower = name.lower()
        if lower in {b"content-encoding", b"content-range"} and value.strip().lower() != b"identity":
            return False
        if lower == b"cache-control" and b"no-transform" in value.lower():
            return False
    return True


def choose_coding(accept: bytes | None, available: tuple[bytes, ...] = CODINGS) -> bytes | None:
    """The coding for a client that sent `accept` as ``Accept-Encoding``; None: as it is."""
    if accept is None:
        return None
    weights: dict[bytes, float] = {}
    for item in accept.lower().split(b","):
        name, _, parameters = item.partition(b";")
        weights[name.strip()] = _weight(parameters)
    best, best_weight = None, max(weights.get(b"identity", 0.0), 0.0)
    for coding in available:
        weight = weights.get(coding, weights.get(b"*", 0.0))
        if weight > best_weight or (weight == best_weight > 0.0 and best is None):
            best, best_weight = coding, weight
    return best


def encoded_headers(headers: Headers, coding: bytes | None) -> Headers:
    """`headers` of the answer in `coding`; of the one left as it is, when None, for caches to tell apart."""
    kept = [pair for pair in headers if coding is None or pair[0].lower() not in _REPLACED]
    for name, value in headers:
        if coding is not None and name.lower() == b"etag":
            kept.append((name, value if value.startswith(b"W/") else b"W/" + value))
    if coding is not None:
        kept.append((b"Content-Encoding", coding))
    if not any(name.lower() == b"vary" and b"accept-encoding" in value.lower() for name, value in headers):
        kept.append((b"Vary", b"Accept-Encoding"))
    return tuple(kept)


_REPLACED: Final = frozenset((b"etag", b"accept-ranges", b"content-encoding", b"content-md5", b"digest"))


def _weight(parameters: bytes) -> float:
    name, _, value = parameters.partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
