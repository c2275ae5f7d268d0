"""The grammar of an HTTP/1.1 head, and nothing that is not in it (pure).

Theory of operation
-------------------
RFC 9112 allows a recipient a good deal of mercy: bare line feeds, white space before a colon, folded lines.
Each kindness is a way in which two servers in a row can read one message differently, which is what request
smuggling is made of. So there is none here: a head is a request line and field lines, each ended by CRLF,
in exactly the characters that RFC 9110 §5 names, and anything else is refused.

One expression finds every field line of a block at once. It is anchored to line starts and runs to the line's
CRLF, and it cannot match across a line end. A block is therefore well formed exactly when there are as many
matches as line feeds: a bare LF, a lone CR, a fold, a control character or a line without a colon leaves a
line feed without its match. Every repetition is possessive, so the work is linear whatever is sent.

Methods are tokens and nothing more: a proxy need not know a method to forward it.

Nothing of what a client sent is repeated in an error: an error text ends up in answers and logs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.errors import BadRequest, HeadersTooLarge, MethodTooLong, TargetTooLong, VersionNotSupported

if TYPE_CHECKING:
    from proxy.ingress.policy import LimitPolicy

__all__ = ("Fields", "check_beginning", "read_fields", "read_request_line", "twin_of")

Fields = list[tuple[bytes, bytes]]
"""(name, value) pairs as they were written, without the white space around a value."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VISIBLE: Final = rb"[!-~\x80-\xff]"
_REQUEST_LINE: Final = re.compile(rb"(%b++) (%b++) HTTP/([0-9])\.([0-9])" % (_TOKEN, _VISIBLE))
_FIELD: Final = re.compile(rb"^(%b++):[ \t]*+([\t -~\x80-\xff]*+)\r\n" % _TOKEN, re.MULTILINE)
_NEVER_IN_A_HEAD: Final = re.compile(rb"(?<!\r)\n|\r[^\n]|\x00")
_AROUND_A_TARGET: Final = 64  # bytes: a method and a version fit
_OVERLONG_METHOD: Final = re.compile(rb"%b{49}" % _TOKEN)
_FIRST_BYTE: Final = re.compile(_TOKEN)
# CGI-style servers know a field as HTTP_NAME: all of them take `-` for `_`, some take any sign for it.
_SIGNS: Final = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)


def twin_of(name: bytes) -> bytes:
    """The usual name, in lower case, of the field for which a CGI-style server may take `name`."""
    return name.lower().translate(_SIGNS)


def read_request_line(line: bytes, limits: LimitPolicy) -> tuple[bytes, bytes, int]:
    """(method, target, version) of a request line without its CRLF; the version is 10 or 11.

    A later minor version is read as 1.1 (RFC 9110 §2.5).
    """
    _check_method(line)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _long(limits) if len(line) > limits.target else BadRequest("malformed request line")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise VersionNotSupported("this listener speaks HTTP/1.0 and HTTP/1.1")
    if len(target) > limits.target:
        raise _long(limits)
    return method, target, 10 if minor == b"0" else 11


def read_fields(block: bytes, limits: LimitPolicy) -> Fields:
    """The fields of `block`: field lines, each with its CRLF. Raises `BadRequest` and `HeadersTooLarge`."""
    count = block.count(b"\n")
    if count > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} header fields")
    fields: Fields = _FIELD.findall(block)
    if len(fields) != count:
        raise BadRequest("malformed header field")
    if len(block) > limits.header_line:
        _check_lines(block, limits)
    if b" \r\n" in block or b"\t\r\n" in block:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def check_beginning(begun: bytes, limits: LimitPolicy, seen: int = 0) -> None:
    """Refuse a head that is not whole yet (not empty) but can only become a malformed one, or too long.

    The first `seen` bytes were checked before: whoever sends one byte at a time has each looked at once.
    """
    if (not seen and not _FIRST_BYTE.match(begun)) or _NEVER_IN_A_HEAD.search(begun, max(0, seen - 1)):
        raise BadRequest("malformed request head")
    _check_method(begun)
    end = begun.find(b"\r\n", 0, limits.target + _AROUND_A_TARGET)
    if end >= seen - 1 and end >= 0:
        read_request_line(begun[:end], limits)
    elif end < 0 and len(begun) > limits.target + _AROUND_A_TARGET:
        raise _long(limits)
    if len(begun) > limits.header_bytes:
        raise HeadersTooLarge(f"request head over {limits.header_bytes} bytes")


def _check_method(line: bytes) -> None:
    if _OVERLONG_METHOD.match(line):
        raise MethodTooLong("no method is that long")


def _check_lines(block: bytes, limits: LimitPolicy) -> None:
    if max(map(len, block.split(b"\r\n"))) > limits.header_line:
        raise HeadersTooLarge(f"a header field over {limits.header_line} bytes")


def _long(limits: LimitPolicy) -> TargetTooLong:
    return TargetTooLong(f"request target over {limits.target} bytes")
