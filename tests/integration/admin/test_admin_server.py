from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
from aiohttp import web

from proxy.admin.readiness import Check
from proxy.admin.server import AdminServer, Route
from proxy.exchange import Call
from proxy.telemetry.ended import Ended
from proxy.telemetry.policy import AccessLogPolicy
from proxy.telemetry.status import StatusReport
from proxy.telemetry.telemetry import Telemetry
from tests.support.manual_clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(frozen=True)
class Somewhere:
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""


class ScriptedLife:
    """A lifecycle whose state the test sets."""

    def __init__(self) -> None:
        self.is_started = True
        self.is_draining = False
        self.drained = asyncio.Event()

    def request_drain(self) -> None:
        self.is_draining = True

    async def wait_drained(self) -> None:
        await self.drained.wait()


class Admin:
    """A running admin server and a client to it."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.life = ScriptedLife()
        self.upstream_health = (True, "")
        self.telemetry = Telemetry(clock, clock.now, AccessLogPolicy(format="off"), version="1.2.3")
        self.status = StatusReport(self.telemetry, clock.now, lambda: "ready", version="1.2.3")
        self.client: aiohttp.ClientSession
        self.server: AdminServer

    def serve_at(self, place: Somewhere, token: str = "") -> AdminServer:
        checks = [Check("upstream model", lambda: self.upstream_health)]
        more = [Route("GET", "/broken", "fails", _broken), Route("GET", "/teapot", "an HTTP error", _teapot)]
        page = self.telemetry.page
        return AdminServer(self.life, page, self.status, checks, place=place, token=token, more=more)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.client.get(self.server.address + path, headers=headers) as response:
            return response.status, await response.text()

    async def post(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.client.post(self.server.address + path, headers=headers) as response:
            return response.status, await response.text()


async def _broken(request: web.Request) -> web.Response:
    raise KeyError("a bug")


async def _teapot(request: web.Request) -> web.Response:
    raise web.HTTPUnprocessableEntity(reason="no tea")


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    admin = Admin()
    admin.server = admin.serve_at(Somewhere())
    await admin.server.start()
    async with aiohttp.ClientSession() as admin.client:
        yield admin
    await admin.server.drain(0.0)
    await admin.server.stop()


async def test_liveness_needs_nothing(admin: Admin) -> None:
    admin.life.is_started = False
    admin.upstream_health = (False, "down")
    assert await admin.get("/livez") == (200, "ok\n")


async def test_startup_is_told_once_everything_runs(admin: Admin) -> None:
    admin.life.is_started = False
    assert await admin.get("/startupz") == (503, "still starting\n")
    admin.life.is_started = True
    assert await admin.get("/startupz") == (200, "ok\n")


async def test_readiness_says_why_not(admin: Admin) -> None:
    assert await admin.get("/readyz") == (200, "ready\n")
    admin.upstream_health = (False, "no healthy endpoint")
    assert await admin.get("/readyz") == (503, "not ready\nupstream model: no healthy endpoint\n")
    admin.life.is_draining = True
    assert await admin.get("/readyz?verbose") == (
        503,
        "[+] started ok\n[-] not-draining: draining\n[-] upstream model: no healthy endpoint\nnot ready\n",
    )


async def test_metrics_in_the_format_that_was_asked_for(admin: Admin) -> None:
    end = Ended("infer", "http", "iris", "ok", 200, 0.01)
    admin.telemetry.record(Call(b"POST", b"/", ()), end)
    async with admin.client.get(admin.server.address + "/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'pillion_requests_total{model="iris"' in await response.text()
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    async with admin.client.get(admin.server.address + "/metrics", headers=accept) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert (await response.text()).endswith("# EOF\n")


async def test_metrics_are_compressed_when_that_is_understood(admin: Admin) -> None:
    headers = {"Accept-Encoding": "gzip"}
    async with admin.client.get(admin.server.address + "/metrics", headers=headers) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert "pillion_build_info" in await response.text()


async def test_the_status_document(admin: Admin) -> None:
    status, text = await admin.get("/status.json")
    assert status == 200
    document = msgspec.json.decode(text)
    assert (document["schema"], document["version"], document["state"]) == (1, "1.2.3", "ready")


async def test_a_drain_is_asked_for_with_post(admin: Admin) -> None:
    status, text = await admin.get("/drain")
    assert (status, msgspec.json.decode(text)) == (405, {"error": "use POST"})
    assert not admin.life.is_draining
    status, text = await admin.post("/drain")
    assert (status, msgspec.json.decode(text)) == (202, {"state": "draining"})
    assert admin.life.is_draining


async def test_the_end_of_a_drain_can_be_waited_for(admin: Admin) -> None:
    status, text = await admin.get("/wait-for-drain")
    assert (status, msgspec.json.decode(text)) == (409, {"error": "not draining: POST /drain first"})
    await admin.post("/drain")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(admin.get("/wait-for-drain"))
        await admin.get("/livez")
        assert not waiting.done()
        admin.life.drained.set()
    assert waiting.result()[0] == 200


async def test_an_unknown_path_is_answered_with_the_list_of_endpoints(admin: Admin) -> None:
    status, text = await admin.get("/helathz")
    document = msgspec.json.decode(text)
    assert (status, document["error"]) == (404, "no such endpoint")
    assert {"method": "GET", "path": "/livez", "help": "the process answers"} in document["endpoints"]
    status, text = await admin.get("/")
    assert (status, msgspec.json.decode(text)["endpoints"]) == (200, document["endpoints"])


async def test_a_failing_endpoint_does_not_tell_its_secrets(
    admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    status, text = await admin.get("/broken")
    assert (status, msgspec.json.decode(text)) == (500, {"error": "internal error, see the log"})
    assert "a bug" in caplog.text
    status, text = await admin.get("/teapot")
    assert (status, msgspec.json.decode(text)) == (422, {"error": "no tea"})


async def test_a_rebound_name_reads_nothing(admin: Admin) -> None:
    status, text = await admin.get("/status.json", Host="evil.example")
    assert (status, msgspec.json.decode(text)) == (403, {"error": "Host must be an IP address or localhost"})


async def test_another_site_changes_nothing(admin: Admin) -> None:
    status, _ = await admin.post("/drain", Origin="http://evil.example")
    assert status == 403
    assert not admin.life.is_draining


async def test_answers_are_not_stored_or_guessed_at(admin: Admin) -> None:
    for path in ("/livez", "/nothing", "/drain"):
        async with admin.client.get(admin.server.address + path) as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers.getall("Server") == ["pillion"]


async def test_head_is_answered_like_get(admin: Admin) -> None:
    async with admin.client.head(admin.server.address + "/readyz") as response:
        assert response.status == 200


async def test_a_token_is_asked_for_where_one_is_configured() -> None:
    admin = Admin()
    admin.server = admin.serve_at(Somewhere(), token="s3cret")
    await admin.server.start()
    async with aiohttp.ClientSession() as admin.client:
        assert (await admin.post("/drain"))[0] == 403
        assert (await admin.post("/drain", Authorization="Bearer s3cret"))[0] == 202
    await admin.server.stop()


async def test_a_unix_socket(tmp_path: Path) -> None:
    admin = Admin()
    path = os.fspath(tmp_path / "admin.sock")
    server = admin.serve_at(Somewhere(path=path))
    await server.start()
    assert server.address == f"unix:{path}"
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client,
        client.post("http://localhost/drain") as response,
    ):
        assert response.status == 202
    await server.stop()


async def test_an_address_in_use_is_an_error_at_start(admin: Admin) -> None:
    port = int(admin.server.address.rpartition(":")[2])
    second = admin.serve_at(Somewhere(port=port))
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.stop()


async def test_stopping_what_never_started() -> None:
    await Admin().serve_at(Somewhere()).stop()


async def test_an_ipv6_address_is_written_as_a_client_would() -> None:
    server = Admin().serve_at(Somewhere(host="::1"))
    await server.start()
    assert server.address.startswith("http://[::1]:")
    await server.stop()
