"""TLS in front of the listener: versions, client certificates, names, files that change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from proxy.ingress.policy import ServerTlsPolicy
from proxy.ingress.tls import TlsFront, server_name_of
from tests.integration.http.conformance import Backend
from tests.integration.http.tls_rig import OURS, ask, client_context, issue, listening
from tests.support.stage import stage
from tests.support.wire import response

if TYPE_CHECKING:
    from tests.support.stage import Stage


async def test_a_request_over_tls(tmp_path: Path) -> None:
    async with listening(issue(tmp_path)) as (front, backend):
        assert front.url.startswith("https://")
        answer = await ask(front, client_context())
        assert answer.body == b"ok"
        assert backend.requests[0].header(b"x-forwarded-proto") == b"https"


async def test_old_versions_are_refused(tmp_path: Path) -> None:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening(issue(tmp_path)) as (front, _):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(front, context)


async def test_another_host_than_the_one_of_the_handshake_is_misdirected(tmp_path: Path) -> None:
    async with listening(issue(tmp_path)) as (front, backend):
        answer = await ask(front, client_context(), host=b"other.example")
        assert answer.status == 421
        assert backend.requests == []


@pytest.mark.parametrize("policy", ["required", "optional"])
async def test_client_certificates(tmp_path: Path, policy: str) -> None:
    authority = tmp_path / "ca.pem"
    OURS.cert_pem.write_to_path(str(authority))
    tls = issue(tmp_path) | {"client_ca": str(authority), "client_certs": policy}
    known, unknown, nobody = client_context(), client_context(), client_context()
    OURS.issue_cert("client@example.org").configure_cert(known)
    trustme.CA().issue_cert("client@example.org").configure_cert(unknown)
    async with listening(tls) as (front, _):
        assert (await ask(front, known)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(front, unknown)
        if policy == "optional":
            assert (await ask(front, nobody)).status == 200
        else:
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await ask(front, nobody)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    renewed = trustme.CA()
    async with listening(issue(tmp_path)) as (front, _):
        assert (await ask(front, client_context())).status == 200
        issue(tmp_path, renewed)
        front.server.refresh_tls()
        assert (await ask(front, client_context(renewed))).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(front, client_context())


async def test_a_long_answer_arrives_whole(tmp_path: Path) -> None:
    """TLS has a buffer of its own, and marks that it takes otherwise than TCP."""
    long = b"0123456789abcdef" * 200_000
    tls = {"http": {"tls": issue(tmp_path)}}
    async with Backend([response(long)]) as backend, stage(backend.url, server=tls) as front:
        assert (await ask(front, client_context())).body == long


async def test_handshakes_that_never_end_are_bounded_in_number(tmp_path: Path) -> None:
    told = 32  # beyond the limit: their handshake would be finished, to answer 503
    async with (
        listening(issue(tmp_path), limits={"connections": 1}) as (front, _),
        AsyncExitStack() as silent,
    ):
        await _silent(silent, front, 1 + told)
        for reader in await _silent(silent, front, 7):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(front, client_context())


async def test_handshakes_that_never_end_are_bounded_in_time(tmp_path: Path) -> None:
    limits, timeouts = {"connections": 1}, {"header": "1s"}  # which the handshake after them may take
    async with (
        listening(issue(tmp_path), limits=limits, timeouts=timeouts) as (front, _),
        AsyncExitStack() as silent,
    ):
        for reader in await _silent(silent, front, 40):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        assert (await ask(front, client_context())).status == 200


async def _silent(stack: AsyncExitStack, front: Stage, count: int) -> list[asyncio.StreamReader]:
    """Connections on which no handshake goes on, for as long as the proxy bears it."""
    readers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
        stack.callback(writer.close)
        readers.append(reader)
    return readers


def test_unusable_files_leave_the_old_ones_in_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = issue(tmp_path)
    front = TlsFront(ServerTlsPolicy.model_validate(tls))
    front.refresh()
    assert caplog.records == []
    Path(tls["cert"]).write_text("half a cer", encoding="utf-8")
    front.refresh()
    assert "cannot be used" in caplog.text
    Path(tls["key"]).unlink()
    front.refresh()
    assert len(caplog.records) == 2


def test_a_key_that_others_can_read_is_worth_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = issue(tmp_path)
    Path(tls["key"]).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        TlsFront(ServerTlsPolicy.model_validate(tls))
    assert "can be read by others" in caplog.text


def test_a_connection_without_tls_asked_for_no_name() -> None:
    assert server_name_of(None) is None
