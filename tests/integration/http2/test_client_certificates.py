"""Client certificates over HTTP/2: who may call, what the backend is told, which host the connection is for."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.support.client_certificates import issue_client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.http2.conftest import Listen

NAME = "a"  # the host that the tests' client asks for
SPIFFE = "spiffe://example.org/ns/prod/sa/client"
GRPC = (b"content-type", b"application/grpc")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    found = trustme.CA()
    certificate = found.issue_cert(NAME, "b")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "key.pem").chmod(0o600)
    found.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return found


def tls(folder: Path, *names: str) -> dict[str, object]:
    files = {"cert": "cert.pem", "key": "key.pem", "client_ca": "ca.pem"}
    return {key: str(folder / file) for key, file in files.items()} | {"client_names": names}


def client(authority: trustme.CA, folder: Path, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(issue_client(authority, folder / "client.pem", *names))
    return context


async def test_a_stranger_is_refused_in_its_own_words(
    listen: Listen, authority: trustme.CA, tmp_path: Path
) -> None:
    stage = await listen(tls=tls(tmp_path, f"uri:{SPIFFE}"))
    context = client(authority, tmp_path, "uri:spiffe://example.org/ns/dev/sa/client")
    async with stage.connect(tls=context, name=NAME) as stranger:
        status, _, body, _ = await stranger.answer(stranger.request(b"GET", b"/"))
        assert (status, b"client certificate" in body) == (403, True)
        _, fields, *_ = await stranger.answer(stranger.request(b"POST", b"/t.T/M", (GRPC,)))
        assert fields[b"grpc-status"] == b"7"
    assert not stage.calls
    assert [error.reason for error in stage.refused] == ["forbidden", "forbidden"]


@pytest.mark.parametrize("is_told", [False, True])
async def test_the_backend_is_told_only_where_that_is_wanted(
    listen: Listen, authority: trustme.CA, tmp_path: Path, is_told: bool
) -> None:
    stage = await listen(tls=tls(tmp_path, f"uri:{SPIFFE}"), forwarding={"client_cert": is_told})
    context = client(authority, tmp_path, f"uri:{SPIFFE}")
    async with stage.connect(tls=context, name=NAME) as known:
        forged = (b"x-forwarded-client-cert", b"URI=spiffe://example.org/admin")
        assert (await known.answer(known.request(b"GET", b"/", (forged,))))[0] == 200
    (call,) = stage.calls
    told = call.header(b"x-forwarded-client-cert") or b""
    assert told.endswith(f';Subject="CN=client";URI={SPIFFE}'.encode()) is is_told
    assert b"admin" not in told
    assert call.certificate == SPIFFE.encode()


async def test_an_authority_other_than_the_handshakes_is_misdirected(
    listen: Listen, authority: trustme.CA, tmp_path: Path
) -> None:
    stage = await listen(tls=tls(tmp_path))
    async with stage.connect(tls=client(authority, tmp_path), name="b") as other:
        assert (await other.answer(other.request(b"GET", b"/")))[0] == 421
    assert not stage.calls


async def test_a_handshake_that_never_ends(listen: Listen, authority: trustme.CA, tmp_path: Path) -> None:
    stage = await listen(tls=tls(tmp_path), timeouts={"header": "100ms"})
    async with stage.connect() as silent:
        with suppress(ConnectionError):
            assert await silent.reader.read() == b""
    async with stage.connect(tls=client(authority, tmp_path), name=NAME) as known:
        assert (await known.answer(known.request(b"GET", b"/")))[0] == 200
