r"""One ended call as one line of text that cannot lie.

A log line is read by people in terminals and by machines that split at newlines, and most of it was written
by whoever sent the request. Three things follow.

* **No forged lines, no terminal tricks.** Everything from outside is made printable ASCII before it enters a
  line: control characters, escape sequences, bytes above 127 and Unicode's invisible and direction-changing
  characters are written as ``\x1b`` and the like. Text that needs none of it (nearly all) is passed through
  after one check. Client-written fields are cut at a fixed length.
* **No secrets.** Credentials do travel in query strings: signed URLs, `?key=`, `?access_token=`. The value of
  each parameter whose name looks like a credential is replaced by ``***``; percent-encoded names are decoded
  before they are judged. The rule errs on the side of hiding.
* **Sampling that can be checked.** A share of *n* % logs exactly *n* of each hundred calls, evenly spread, by
  carrying the remainder over in whole millionths; no random numbers, no drift.

The JSON layout is fixed: every key is there in every line. The text layout is the same as ``key=value``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended

__all__ = ("AccessLine", "Scribe", "Spans", "Thinner", "as_json", "as_text", "printable", "redacted")

_LONGEST_TARGET = 2048
_LONGEST_ID = 128
_MOST_REMEMBERED = 1024
_LONGEST_REMEMBERED = 256
_SHOWN_OF_DIGEST = 16  # enough to tell keys apart, by the configuration's own text
_MILLION = 1_000_000
_encode = msgspec.json.Encoder().encode
_CREDENTIAL = re.compile(
    rb"token|secret|passw|pwd|credential|signature|session|jwt|auth|api[-_.]?key"
    rb"|(?:^|[-_.])(?:key|sig|sid|pass|code)$",
    re.IGNORECASE,
)
_PAIR = re.compile(rb"([^&;=?]+)=([^&;]*)")
_NEEDS_QUOTES = re.compile(r'[\s"=\\]|^$')


class Spans(msgspec.Struct, gc=False):
    """Where the time went, in milliseconds."""

    total: float
    queue: float
    pool: float
    upstream: float


class AccessLine(msgspec.Struct, gc=False):
    """The keys of one access log line, in order.

    `ts` is UTC in ISO 8601 with milliseconds, when the call ended. `target` has its credentials hidden.
    `identity` is the name in the client's certificate, else the beginning of its API key's digest, else
    empty. `bytes_in` and `bytes_out` count body bytes; `bytes_in` is null when the body's length was never
    declared.
    `reason` is set when Pillion made the answer itself.
    """

    ts: str
    request_id: str
    client: str
    identity: str
    protocol: str
    method: str
    target: str
    route: str
    model: str
    status: int
    outcome: str
    reason: str
    ended_by: str
    bytes_in: int | None
    bytes_out: int
    ms: Spans
    batch: str


class Thinner:
    """Lets a fixed share (0..1) of calls through, evenly spread."""

    __slots__ = ("_carry", "_share")

    def __init__(self, share: float) -> None:
        self._share = round(share * _MILLION)
        self._carry = 0

    def takes_next(self) -> bool:
        """Whether the next call is among the share."""
        self._carry += self._share
        if self._carry < _MILLION:
            return False
        self._carry -= _MILLION
        return True


def printable(text: str | bytes, most: int = _LONGEST_TARGET) -> str:
    """`text` without anything that a terminal or a line reader could take for a command.

    At most `most` characters of the original are kept, the cut marked by ``...``.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if len(text) > most:
        text = text[:most] + "..."
    if text.isascii() and text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def redacted(target: bytes) -> bytes:
    """`target` with the values of credential-like query parameters replaced by ``***``."""
    path, mark, query = target.partition(b"?")
    return path + mark + _PAIR.sub(_hide, query) if mark else target


def _hide(pair: re.Match[bytes]) -> bytes:
    name = pair[1]
    decoded = unquote_to_bytes(name) if b"%" in name else name
    return name + b"=***" if _CREDENTIAL.search(decoded) else pair[0]


class Scribe:
    """Makes lines of calls, remembering what it made printable: most calls look like some call before."""

    __slots__ = ("_target", "_text")

    def __init__(self) -> None:
        self._text = _remembering(printable)
        self._target = _remembering(lambda target: printable(redacted(target)))

    def line(self, call: Call, ended: Ended, ts: str) -> AccessLine:
        """The line of one call that ended at `ts`."""
        text = self._text
        body = call.body
        return AccessLine(
            ts=ts,
            request_id=printable(call.header(b"x-request-id") or b"", _LONGEST_ID),
            client=text(call.peer),
            identity=text(call.certificate) if call.certificate else _key_name(call.identity),
            protocol=ended.protocol,
            method=text(call.method),
            target=self._target(call.target),
            route=ended.route,
            model=printable(ended.model),
            status=ended.status,
            outcome=ended.outcome,
            reason=ended.reason,
            ended_by=ended.ended_by,
            bytes_in=len(body) if isinstance(body, bytes) else body.length,
            bytes_out=ended.bytes_out,
            ms=Spans(
                round(ended.duration_s * 1e6) / 1e3,
                round(call.queue_s * 1e6) / 1e3,
                round(call.pool_s * 1e6) / 1e3,
                round(call.upstream_s * 1e6) / 1e3,
            ),
            batch=call.batch.decode(),
        )


def _key_name(digest: bytes) -> str:
    return f"sha256:{digest.hex()[:_SHOWN_OF_DIGEST]}" if digest else ""


def _remembering(make: Callable[[bytes], str]) -> Callable[[bytes], str]:
    """`make` with a bounded memory; texts longer than most are not worth their place in it."""
    remembered = lru_cache(_MOST_REMEMBERED)(make)
    return lambda raw: remembered(raw) if len(raw) <= _LONGEST_REMEMBERED else make(raw)


def as_json(line: AccessLine) -> bytes:
    """One JSON object and a newline."""
    return _encode(line) + b"\n"


def as_text(line: AccessLine) -> bytes:
    """``key=value`` pairs and a newline; values are quoted where they hold blanks, quotes or ``=``."""
    ms = line.ms
    return (
        f"ts={line.ts} request_id={_word(line.request_id)} client={_word(line.client)} "
        f"identity={_word(line.identity)} "
        f"protocol={line.protocol} method={_word(line.method)} target={_word(line.target)} "
        f"route={_word(line.route)} model={_word(line.model)} "
        f"status={line.status} outcome={line.outcome} reason={_word(line.reason)} "
        f"ended_by={line.ended_by or '-'} "
        f"bytes_in={'-' if line.bytes_in is None else line.bytes_in} bytes_out={line.bytes_out} "
        f"ms_total={ms.total} ms_queue={ms.queue} ms_pool={ms.pool} ms_upstream={ms.upstream} "
        f"batch={_word(line.batch)}\n"
    ).encode()


def _word(text: str) -> str:
    return _encode(text).decode() if _NEEDS_QUOTES.search(text) else text
