"""Client certificates: whom they name, whether that name is wanted, what the backend is told (pure).

Theory of operation
-------------------
The TLS handshake has proved that the client holds the key of a certificate that a trusted authority signed.
What is left is to say who that is. Only subject alternative names count: DNS names and URIs (SPIFFE ids are
such). The subject's common name is free text and decides nothing.

An operator lists names as ``dns:client.example.org`` or ``uri:spiffe://example.org/ns/prod/sa/client``. One
wildcard each is understood: ``dns:*.example.org`` stands for exactly one label, as in a certificate, and
``uri:spiffe://example.org/ns/prod/*`` for any path below. What a wildcard stands for must consist of
characters that such a name has; a certificate that itself names a wildcard matches only the same text.

The backend is told in ``X-Forwarded-Client-Cert``, in the form that Envoy gave it: ``Hash`` (SHA-256 of the
certificate), ``Subject``, ``URI``, ``DNS``, separated by ``;``. Names come from an authority that the
operator trusts, but not every authority checks what it signs: a value that could end its place is quoted,
and what is not printable ASCII is written in hexadecimal (RFC 4514).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ("AcceptedNames", "ClientCertificate", "check_name", "read_certificate")

_LISTED: Final = re.compile(
    r"dns:(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|uri:[a-z][a-z0-9+.-]*:[!-)+-~]+(?:/\*)?"
)
_LABEL: Final = re.compile(r"[a-z0-9_-]+")
_BELOW: Final = re.compile(r"(?!(?:.*/)?\.\.?(?:/|$))[A-Za-z0-9._~!$&'()+,;=:@%/-]+")  # no dot segment
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~:/@+*-]+")
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_SPECIAL: Final = re.compile(r'([,+"\\<>;])')  # RFC 4514 §2.4
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "userId": "UID",
}


class ClientCertificate(NamedTuple):
    """A verified certificate: `names` as they would be listed, `name` the first of them (or the subject, or
    the hash) for people, `element` for ``X-Forwarded-Client-Cert``, `digest` its SHA-256."""

    names: tuple[str, ...]
    name: bytes
    element: bytes
    digest: bytes


def read_certificate(fields: Mapping[str, object], der: bytes) -> ClientCertificate:
    """The certificate `der`, decoded by `ssl` as `fields` (`ssl.SSLObject.getpeercert`)."""
    alternatives = _pairs(fields.get("subjectAltName"))
    uris = [value for kind, value in alternatives if kind == "URI"]
    hosts = [value for kind, value in alternatives if kind == "DNS"]
    subject = _subject(fields.get("subject"))
    digest = hashlib.sha256(der).digest()
    element = [f"Hash={digest.hex()}", f"Subject={_quoted(subject)}"]
    element += [f"URI={_worded(uri)}" for uri in uris] + [f"DNS={_worded(host)}" for host in hosts]
    name = next((each for each in (*uris, *hosts, subject) if each), f"sha256:{digest.hex()}")
    return ClientCertificate(
        (*(f"uri:{uri}" for uri in uris), *(f"dns:{host.lower()}" for host in hosts)),
        _ascii(name).encode(),
        ";".join(element).encode(),
        digest,
    )


def check_name(text: str) -> str:
    """`text` as it is compared; ValueError when it is no name for the list of accepted ones."""
    kind, _, name = text.partition(":")
    listed = f"{kind.lower()}:{name if kind.lower() == 'uri' else name.lower()}"
    if _LISTED.fullmatch(listed) is None:
        raise ValueError("expected dns:NAME, dns:*.DOMAIN, uri:URI or uri:URI/*")
    return listed


class AcceptedNames:
    """The names that clients may have (checked ones); without any, every certificate will do."""

    __slots__ = ("_any", "_domains", "_exact", "_roots")

    def __init__(self, names: Iterable[str]) -> None:
        listed = tuple(names)
        self._any = not listed
        self._exact = frozenset(listed)
        self._domains = frozenset(name[6:] for name in listed if name.startswith("dns:*."))
        self._roots = tuple(name[:-1] for name in listed if name.startswith("uri:") and name.endswith("/*"))

    def accept(self, certificate: ClientCertificate) -> bool:
        """True when one of the certificate's names is among them."""
        return self._any or any(self._accepts(name) for name in certificate.names)

    def _accepts(self, name: str) -> bool:
        if name in self._exact:
            return True
        if name.startswith("dns:"):
            label, _, domain = name[4:].partition(".")
            return domain in self._domains and _LABEL.fullmatch(label) is not None
        return any(name.startswith(root) and _BELOW.fullmatch(name[len(root) :]) for root in self._roots)


def _pairs(value: object) -> list[tuple[str, str]]:
    pairs = value if isinstance(value, tuple) else ()
    return [(str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, tuple) and len(pair) == 2]


def _subject(value: object) -> str:
    """The distinguished name as text, the most specific part first (RFC 4514)."""
    parts = value if isinstance(value, tuple) else ()
    texts = ["+".join([_attribute(*pair) for pair in _pairs(part)]) for part in reversed(parts)]
    return ",".join([text for text in texts if text])


def _attribute(kind: str, text: str) -> str:
    return _SHORT.get(kind, kind) + "=" + _SPECIAL.sub(r"\\\1", text)


def _ascii(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: "".join(f"\\{byte:02X}" for byte in found[0].encode()), text)


def _worded(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", _ascii(text)) + '"'
