"""Client certificates over HTTP/1.1: who may call, what backend and log are told, what old sessions are worth."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.integration.http.tls_rig import NAME, ask, client_context, listening, mutual, showing
from tests.support.raw_client import request

if TYPE_CHECKING:
    from pathlib import Path

SPIFFE = "spiffe://example.org/ns/prod/sa/client"
TOLD = b"x-forwarded-client-cert"


async def test_only_listed_names_may_call(tmp_path: Path) -> None:
    tls = mutual(tmp_path, "dns:*.example.org", f"uri:{SPIFFE}")
    async with listening(tls) as (front, backend):
        for name in ("dns:a.example.org", f"uri:{SPIFFE}"):
            assert (await ask(front, showing(tmp_path, "dns:x", name))).status == 200
        for names in (("dns:example.org",), (), ("uri:spiffe://example.org/ns/dev",)):
            refused = await ask(front, showing(tmp_path, *names))
            assert refused.status == 403
            assert b'details="forbidden"' in (refused.header(b"proxy-status") or b"")
            assert refused.header(b"connection") == b"close"
        assert len(backend.requests) == 2


async def test_the_dialect_is_that_of_the_route(tmp_path: Path) -> None:
    tls = mutual(tmp_path, "dns:a.example.org")
    async with listening(tls, protocol="openai") as (front, _):
        refused = await ask(front, showing(tmp_path, "dns:b.example.org"), target=b"/v1/models")
        assert b'"code":"forbidden"' in refused.body


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("is_trusted", [False, True])
async def test_what_the_backend_is_told(tmp_path: Path, is_told: bool, is_trusted: bool) -> None:
    said = "URI=spiffe://example.org/admin"
    trusted = ("127.0.0.1",) if is_trusted else ()
    settings = listening(mutual(tmp_path), forwarding={"client_cert": is_told}, trusted_proxies=trusted)
    async with settings as (front, backend):
        line = b"X-Forwarded-Client-Cert: " + said.encode()
        assert (await ask(front, showing(tmp_path, f"uri:{SPIFFE}", "dns:c"), line)).status == 200
    values = b"|".join(backend.requests[0].all(TOLD)).decode()
    assert values.startswith(said) is is_trusted
    assert values.endswith(f';Subject="CN=client";URI={SPIFFE};DNS=c') is is_told
    assert ("Hash=" in values) is is_told


async def test_a_client_without_a_certificate_tells_nothing(tmp_path: Path) -> None:
    tls = mutual(tmp_path, f"uri:{SPIFFE}") | {"client_certs": "optional"}
    async with listening(tls, forwarding={"client_cert": True}) as (front, backend):
        assert (await ask(front, client_context(), b"X-Forwarded-Client-Cert: URI=x")).status == 200
        assert (await ask(front, showing(tmp_path, "dns:x"))).status == 403
    assert [message.all(TOLD) for message in backend.requests] == [[]]


async def test_the_log_knows_who_called_and_who_was_refused(tmp_path: Path) -> None:
    async with listening(mutual(tmp_path, f"uri:{SPIFFE}")) as (front, _):
        await ask(front, showing(tmp_path, f"uri:{SPIFFE}"))
        await ask(front, showing(tmp_path, "dns:other.example.org"), target=b"/secret")
        seen = [(call.certificate, call.target) for call in front.telemetry.calls]
        assert seen == [(SPIFFE.encode(), b"/"), (b"other.example.org", b"/secret")]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_worth_no_more_than_the_authorities_of_now(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    tls = mutual(tmp_path)
    context = showing(tmp_path, "dns:client")
    context.maximum_version = version
    async with listening(tls) as (front, _):
        port = int(front.url.rpartition(":")[2])
        status, session, _ = await asyncio.to_thread(_ask_again, context, port, None)
        assert status == b"200"
        status, session, _ = await asyncio.to_thread(_ask_again, context, port, session)
        assert status == b"200"
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        front.server.refresh_tls()
        status, _, is_resumed = await asyncio.to_thread(_ask_again, context, port, session)
        assert is_resumed is (version is ssl.TLSVersion.TLSv1_2)
        assert status == (b"403" if is_resumed else b"")


def _ask_again(
    context: ssl.SSLContext, port: int, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None, bool]:
    """(status or nothing, the session, whether it was resumed)."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as sock,
        context.wrap_socket(sock, server_hostname=NAME, session=session) as tls,
    ):
        try:
            tls.sendall(request(b"GET", b"/", b"", b"Connection: close", host=NAME.encode()))
            answer = tls.recv(65536)
        except (ssl.SSLError, ConnectionError):  # TLS 1.3: the server verifies after our part is done
            return b"", None, False
        return answer[9:12], tls.session, bool(tls.session_reused)
