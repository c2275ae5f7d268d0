"""`pillion serve` with a gRPC upstream: reachable from the YAML, drained by SIGTERM, seen in the metrics."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
import trustme
from grpc import aio

from tests.integration.grpc.service import Service, running
from tests.support.http2_backend import Backend
from tests.support.sidecar import Sidecar, pillion
from tests.support.waiting import PATIENCE_S, until_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONFIG = """version: 1
server: {{grpc: {{listen: "127.0.0.1:0"}}}}
upstreams:
  rest: {{protocol: generic, http: ["http://127.0.0.1:1"]}}
  model: {{protocol: open-inference, grpc: ["127.0.0.1:{port}"], pool: {{grpc: {{min: 2}}}}}}
"""


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Service, Sidecar, aio.Channel]]:
    service = Service()
    async with running(service) as (_server, port):
        config = tmp_path / "pillion.yaml"
        config.write_text(CONFIG.format(port=port))
        async with pillion("-c", str(config)) as sidecar, aio.insecure_channel(sidecar.grpc) as channel:
            yield service, sidecar, channel


async def test_calls_reach_the_upstream_that_speaks_grpc(
    stage: tuple[Service, Sidecar, aio.Channel],
) -> None:
    _service, sidecar, channel = stage
    assert await channel.unary_unary("/t.T/Unary")(b"hello") == b"hello"
    assert [m async for m in channel.unary_stream("/t.T/Count")(b"3")] == [b"0", b"1", b"2"]
    with pytest.raises(aio.AioRpcError) as caught:
        await channel.unary_unary("/t.T/Fail")(b"5")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    async with aiohttp.ClientSession() as session:
        text = await (await session.get(f"{sidecar.admin}/metrics")).text()

        async def status() -> dict[str, Any]:
            async with session.get(f"{sidecar.admin}/status.json") as answer:
                found: dict[str, Any] = await answer.json()
                return found

        async def are_both_dialed() -> bool:
            return bool((await status())["pools"]["model"][0]["channels"] == 2)

        await until_told(are_both_dialed)
        listeners = (await status())["listeners"]
    counted = [line for line in text.splitlines() if line.startswith("pillion_requests_total{")]
    assert any('protocol="grpc"' in line and 'outcome="ok"' in line for line in counted), counted
    assert any('protocol="grpc"' in line and 'outcome="client_error"' in line for line in counted)
    assert {listener["name"] for listener in listeners} == {"http", "grpc", "admin"}


async def test_sigterm_lets_a_call_finish(stage: tuple[Service, Sidecar, aio.Channel]) -> None:
    _service, sidecar, channel = stage
    call = channel.stream_stream("/t.T/Echo")()
    await call.write(b"before")
    assert await call.read() == b"before"
    sidecar.signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        await call.write(b"after")
        assert await call.read() == b"after"
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() == grpc.StatusCode.OK
    assert await sidecar.wait() == 0


TLS_CONFIG = """version: 1
server: {{grpc: {{listen: "127.0.0.1:0", tls: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}}}}}
upstreams:
  model: {{grpc: ["https://localhost:{port}"], tls: {{ca: {folder}/ca.pem}}, pool: {{grpc: {{min: 1}}}}}}
"""


def write_certificate(authority: trustme.CA, folder: Path) -> tuple[bytes, bytes, bytes]:
    """Key and chain of a certificate for localhost, and the authority's own, which the folder holds too."""
    certificate = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    key, root = certificate.private_key_pem.bytes(), authority.cert_pem.bytes()
    for name, data in (("cert.pem", chain), ("key.pem", key), ("ca.pem", root)):
        (folder / name).write_bytes(data)
    (folder / "key.pem").chmod(0o600)
    return key, chain, root


async def _each(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def test_tls_on_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    key, chain, root = write_certificate(authority, tmp_path)
    config = tmp_path / "pillion.yaml"
    async with running(Service(), grpc.ssl_server_credentials([(key, chain)])) as (_server, port):
        config.write_text(TLS_CONFIG.format(folder=tmp_path, port=port))
        async with pillion("-c", str(config)) as sidecar:
            address = f"localhost:{sidecar.grpc.rpartition(':')[2]}"
            async with aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
                assert await channel.unary_unary("/t.T/Unary")(b"hello") == b"hello"
                large = [bytes((number,)) * (200_000 + number) for number in range(20)]
                echo = channel.stream_stream("/t.T/Echo")(_each(large))
                assert [message async for message in echo] == large
            async with aio.insecure_channel(address) as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await channel.unary_unary("/t.T/Unary")(b"hello")
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


MUTUAL_CONFIG = """version: 1
server:
  grpc:
    listen: "127.0.0.1:0"
    tls:
      cert: {folder}/cert.pem
      key: {folder}/key.pem
      client_ca: {folder}/ca.pem
      client_names: [dns:localhost]
  forwarding: {{client_cert: true}}
  auth: {{keys: [{digest}]}}
upstreams:
  model:
    grpc: ["https://localhost:{port}"]
    tls: {{ca: {folder}/ca.pem, cert: {folder}/cert.pem, key: {folder}/key.pem}}
    pool: {{grpc: {{min: 1}}}}
"""


async def test_both_sides_prove_who_they_are_and_keys_are_metadata(tmp_path: Path) -> None:
    authority = trustme.CA()
    key, chain, root = write_certificate(authority, tmp_path)
    secret, config, service = "a long and random key", tmp_path / "pillion.yaml", Service()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    mutual = grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)
    async with running(service, mutual) as (_server, port):
        config.write_text(MUTUAL_CONFIG.format(folder=tmp_path, port=port, digest=digest))
        async with pillion("-c", str(config)) as sidecar:
            address = f"localhost:{sidecar.grpc.rpartition(':')[2]}"
            known = grpc.ssl_channel_credentials(root, key, chain)
            async with aio.secure_channel(address, known) as channel:
                unary, shown = channel.unary_unary("/t.T/Unary"), ("authorization", f"Bearer {secret}")
                assert await unary(b"hello", metadata=(shown,)) == b"hello"
                metadata = dict(service.metadata)
                assert "authorization" not in metadata
                assert str(metadata["x-forwarded-client-cert"]).endswith(";DNS=localhost")
                with pytest.raises(aio.AioRpcError) as caught:
                    await unary(b"hello")
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            other = authority.issue_cert("other.example.org")
            stranger = grpc.ssl_channel_credentials(
                root, other.private_key_pem.bytes(), other.cert_chain_pems[0].bytes()
            )
            async with aio.secure_channel(address, stranger) as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await channel.unary_unary("/t.T/Unary")(b"hello", metadata=(shown,))
                assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
            async with aio.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await channel.unary_unary("/t.T/Unary")(b"hello", metadata=(shown,))
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("host", ["preserve", "upstream", "models.internal"])
async def test_the_authority_is_the_one_configured(tmp_path: Path, host: str) -> None:
    config = tmp_path / "pillion.yaml"
    async with Backend().running() as server:
        text = f"upstreams: {{model: {{grpc: ['127.0.0.1:{server.port}'], host: {host}, health: {{every: 0s}}}}}}"
        config.write_text(f"version: 1\nserver: {{grpc: {{listen: '127.0.0.1:0'}}}}\n{text}")
        async with pillion("-c", str(config)) as sidecar, aio.insecure_channel(sidecar.grpc) as channel:
            assert await channel.unary_unary("/t.T/Unary")(b"hello") == b"hello"
        heads = [head for each in server.connections for head in each.requests.values()]
        seen = {dict(head.headers)[b"host"] for head in heads if head.target == b"/t.T/Unary"}
    names = {"preserve": sidecar.grpc, "upstream": f"127.0.0.1:{server.port}"}
    assert seen == {names.get(host, host).encode()}
