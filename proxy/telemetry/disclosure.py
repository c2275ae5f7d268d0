"""What of a request's fields may be shown to people: enough to see that two calls differ, and no more.

Any value can be a credential, whatever its field is called, so all but a few harmless ones are shown as a
short digest. Pure.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.exchange import Headers

__all__ = ("shown_fields",)

_HARMLESS: Final = frozenset((b"accept", b"content-type", b"host", b"origin"))


def shown_fields(headers: Headers) -> dict[str, str]:
    """Values by name (as they are spelt); the values of a field that is repeated are joined."""
    shown: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        text = value.decode("latin-1") if name.lower() in _HARMLESS else _digest(value)
        shown[key] = f"{shown[key]}, {text}" if key in shown else text
    return shown


def _digest(value: bytes) -> str:
    return "blake2:" + hashlib.blake2b(value, digest_size=6).hexdigest()
