"""Whom a client certificate names, who is accepted, and what the backend is told."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from proxy.ingress.certificates import AcceptedNames, ClientCertificate, check_name, read_certificate
from proxy.ingress.policy import ServerTlsPolicy

DER = b"the certificate"
DIGEST = hashlib.sha256(DER).hexdigest()
SPIFFE = "spiffe://example.org/ns/prod/sa/client"


def certificate(*names: tuple[str, str], subject: object = ()) -> ClientCertificate:
    return read_certificate({"subjectAltName": names, "subject": subject}, DER)


def test_names_of_both_kinds() -> None:
    found = certificate(
        ("DNS", "Client.Example.Org"),
        ("URI", SPIFFE),
        ("email", "a@b"),
        subject=((("organizationName", "O"),), (("commonName", "x"), ("userId", "u")), (("odd", "y"),)),
    )
    assert found.names == (f"uri:{SPIFFE}", "dns:client.example.org")
    assert found.name == SPIFFE.encode()
    assert found.digest.hex() == DIGEST
    assert found.element == (
        f'Hash={DIGEST};Subject="odd=y,CN=x+UID=u,O=O";URI={SPIFFE};DNS=Client.Example.Org'.encode()
    )


@pytest.mark.parametrize(
    ("names", "subject", "name"),
    [
        ((("DNS", "a.b"),), (((("commonName", "x")),),), "a.b"),
        ((), ((("commonName", "x"),),), "CN=x"),
        ((), (), f"sha256:{DIGEST}"),
    ],
)
def test_a_name_for_people(names: tuple[tuple[str, str], ...], subject: object, name: str) -> None:
    assert certificate(*names, subject=subject).name.decode() == name


def test_fields_that_cannot_be_read_name_nobody() -> None:
    found = read_certificate({}, DER)
    assert found.names == ()
    assert found.element == f'Hash={DIGEST};Subject=""'.encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("spiffe://a/b;URI=spiffe://a/admin", r'URI="spiffe://a/b;URI=spiffe://a/admin"'),
        ('a"b', r'URI="a\"b"'),
        ("a\\b", r'URI="a\\b"'),
        ("a,b", 'URI="a,b"'),
        ("a\r\nb", r'URI="a\\0D\\0Ab"'),
        ("ä", r'URI="\\C3\\A4"'),
    ],
)
def test_a_value_cannot_leave_its_place(value: str, written: str) -> None:
    element = certificate(("URI", value)).element
    assert element.decode().partition('Subject="";')[2] == written
    assert certificate(("URI", value)).name.decode().isprintable()


def test_a_subject_cannot_leave_its_place() -> None:
    found = certificate(subject=((("commonName", 'x",O=y;URI=z\n'),),))
    assert found.element.decode().partition(";")[2] == r'Subject="CN=x\\\"\\,O=y\\;URI=z\\0A"'


@pytest.mark.parametrize(
    ("listed", "kind", "value", "is_accepted"),
    [
        ("dns:a.example.org", "DNS", "a.example.org", True),
        ("DNS:A.Example.org", "DNS", "a.example.ORG", True),
        ("dns:a.example.org", "DNS", "b.example.org", False),
        ("dns:a.example.org", "URI", "a.example.org", False),
        ("dns:*.example.org", "DNS", "a.example.org", True),
        ("dns:*.example.org", "DNS", "a.b.example.org", False),
        ("dns:*.example.org", "DNS", "example.org", False),
        ("dns:*.example.org", "DNS", ".example.org", False),
        ("dns:*.example.org", "DNS", "a.example.org.", False),
        ("dns:*.example.org", "DNS", "a.evilexample.org", False),
        ("dns:*.example.org", "DNS", "evil\0.example.org", False),
        ("dns:*.example.org", "DNS", "*.example.org", True),
        ("dns:*.b.example.org", "DNS", "*.example.org", False),
        (f"uri:{SPIFFE}", "URI", SPIFFE, True),
        (f"uri:{SPIFFE}", "URI", SPIFFE + "2", False),
        (f"uri:{SPIFFE}", "URI", SPIFFE.upper(), False),
        (f"uri:{SPIFFE}", "DNS", SPIFFE, False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", SPIFFE, True),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod/", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod2/sa/x", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod/x\0y", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod/../dev/x", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod/x/..", False),
        ("uri:spiffe://example.org/ns/prod/*", "URI", "spiffe://example.org/ns/prod/x..y/.z", True),
        ("uri:spiffe://example.org/ns/prod/*", "DNS", "x.example.org", False),
        ("dns:a", "email", "a", False),
    ],
)
def test_who_is_accepted(listed: str, kind: str, value: str, is_accepted: bool) -> None:
    assert AcceptedNames([check_name(listed)]).accept(certificate((kind, value))) is is_accepted


def test_the_common_name_decides_nothing() -> None:
    assert not AcceptedNames(["dns:a"]).accept(certificate(subject=((("commonName", "a"),),)))


def test_without_a_list_every_certificate_will_do() -> None:
    assert AcceptedNames(()).accept(certificate())


@pytest.mark.parametrize(
    "text",
    ["", "a.example.org", "dns:", "dns:*", "dns:a.*.b", "dns:a b", "uri:x", "uri:a:*b", "uri:a:b*", "ip:1"],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="expected dns:NAME"):
        check_name(text)


def test_names_are_of_no_use_without_an_authority() -> None:
    with pytest.raises(ValidationError, match="client_ca"):
        ServerTlsPolicy(cert="c", key="k", client_names=("dns:a",))
    ServerTlsPolicy(cert="c", key="k", client_ca="a", client_names=("dns:a",))
