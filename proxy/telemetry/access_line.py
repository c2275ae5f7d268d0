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
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

if TYPE_CHECKING:
    from proxy.exchange import Call
    from proxy.telemetry.ended import Ended

__all__ = ("AccessLine", "Spans", "Thinner", "access_line", "as_json", "as_text", "printable", "redacted")

_LONGEST_TARGET = 2048
_LONGEST_ID = 128
_MILLION = 1_000_000
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
    `bytes_in` and `bytes_out` count body bytes; `bytes_in` is null when the body's length was never declared.
    `reason` is set when Pillion made the answer itself.
    """

    ts: str
    request_id: str
    client: str
    protocol: str
    method: str
    target: str
    route: str
    model: str
    status: int
    outcome: str
    reason: str
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


def access_line(call: Call, ended: Ended, ts: str) -> AccessLine:
    """The line of one call that ended at `ts`."""
    body = call.body
    return AccessLine(
        ts=ts,
        request_id=printable(call.header(b"x-request-id") or b"", _LONGEST_ID),
        client=printable(call.peer),
        protocol=ended.protocol,
        method=printable(call.method, _LONGEST_ID),
        target=printable(redacted(call.target)),
        route=ended.route,
        model=printable(ended.model),
        status=ended.status,
        outcome=ended.outcome,
        reason=ended.reason,
        bytes_in=len(body) if isinstance(body, bytes) else body.length,
        bytes_out=ended.bytes_out,
        ms=Spans(
            round(ended.duration_s * 1e3, 3),
            round(call.queue_s * 1e3, 3),
            round(call.pool_s * 1e3, 3),
            round(call.upstream_s * 1e3, 3),
        ),
        batch=printable(call.batch),
    )


def as_json(line: AccessLine) -> bytes:
    """One JSON object and a newline."""
    return msgspec.json.encode(line) + b"\n"


def as_text(line: AccessLine) -> bytes:
    """``key=value`` pairs and a newline; values are quoted where they hold blanks, quotes or ``=``."""
    flat = msgspec.structs.asdict(line)
    spans = msgspec.structs.asdict(flat.pop("ms"))
    pairs = (*flat.items(), *((f"ms_{name}", span) for name, span in spans.items()))
    return " ".join(f"{name}={_word(value)}" for name, value in pairs).encode() + b"\n"


def _word(value: object) -> str:
    text = "-" if value is None else str(value)
    return msgspec.json.encode(text).decode() if _NEEDS_QUOTES.search(text) else text
