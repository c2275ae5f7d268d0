from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from proxy.errors import NoHealthyEndpoint
from proxy.pooling.policy import TlsPolicy
from proxy.pooling.tls import client_context
from tests.support.cluster_rig import ClusterRig
from tests.support.raw_backend import RawBackend

if TYPE_CHECKING:
    from pathlib import Path

ONE_TRY = {"attempts": 1}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_files(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    issued = authority.issue_cert("proxy@example.org")
    cert, key = folder / "client.pem", folder / "client.key"
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return str(cert), str(key)


async def test_a_backend_of_the_own_authority(authority: trustme.CA, ca_file: str) -> None:
    async with RawBackend(tls=server(authority)) as backend, ClusterRig(backend, tls={"ca": ca_file}) as rig:
        await rig.up()
        assert (await rig.call()).body == b"/infer"
        assert (await rig.call()).body == b"/infer"


async def test_an_unknown_authority_is_not_trusted(authority: trustme.CA) -> None:
    async with RawBackend(tls=server(authority)) as backend, ClusterRig(backend, retry=ONE_TRY) as rig:
        with pytest.raises(NoHealthyEndpoint, match="certificate verify failed"):
            await rig.call()
        await rig.told("certificate verify failed")


async def test_a_certificate_for_another_name_is_not_accepted(authority: trustme.CA, ca_file: str) -> None:
    tls = server(authority, "model.internal")
    async with RawBackend(tls=tls) as backend:
        async with ClusterRig(backend, tls={"ca": ca_file}, retry=ONE_TRY) as rig:
            with pytest.raises(NoHealthyEndpoint, match="IP address mismatch"):
                await rig.call()
        names: list[str | None] = []
        tls.sni_callback = lambda _socket, name, _context: names.append(name)
        async with ClusterRig(backend, tls={"ca": ca_file, "server_name": "model.internal"}) as rig:
            assert (await rig.call()).status == 200
        assert set(names) == {"model.internal"}


async def test_verification_can_be_given_up(authority: trustme.CA) -> None:
    async with (
        RawBackend(tls=server(authority)) as backend,
        ClusterRig(backend, tls={"verify": False}) as rig,
    ):
        assert (await rig.call()).status == 200


async def test_a_client_certificate_is_shown(authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    tls = server(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    cert, key = client_files(authority, tmp_path)
    shown = {"ca": ca_file, "cert": cert, "key": key}
    async with RawBackend(tls=tls) as backend, ClusterRig(backend, tls=shown) as rig:
        assert (await rig.call()).status == 200


def test_only_http_1_1_is_offered_and_old_tls_is_not(ca_file: str) -> None:
    context = client_context(TlsPolicy(ca=ca_file))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname


@pytest.mark.parametrize("policy", [{"ca": "/nowhere.pem"}, {"cert": "/nowhere.pem"}])
def test_files_that_do_not_exist_are_an_error(policy: dict[str, str]) -> None:
    with pytest.raises(OSError, match="No such file"):
        client_context(TlsPolicy(**policy))  # type: ignore[arg-type]  # only strings here
