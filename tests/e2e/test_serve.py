"""`pillion serve` before the demo model server, as an operator meets it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.demo.models import sample_images
from proxy.demo.options import DemoOptions
from proxy.demo.server import DemoServer, start
from tests.support.backend import backend as held_back
from tests.support.sidecar import Sidecar, pillion, run_pillion
from tests.support.waiting import until_told
from tests.support.wire import response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

IMAGES = [list(pixels) for pixels, _ in sample_images()[:16]]


@pytest.fixture
async def backend() -> AsyncIterator[DemoServer]:
    server = await start(DemoOptions(fixed_s=0.02, item_s=0.0001), "127.0.0.1", 0)
    yield server
    await server.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_answers_are_the_backends_and_requests_are_merged(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    async with pillion("--upstream", backend.url, "--protocol", "kserve-v1") as sidecar:

        async def ask(base: str, image: Sequence[float]) -> tuple[int, bytes]:
            async with http.post(f"{base}/v1/models/digits:predict", json={"instances": [image]}) as reply:
                return reply.status, await reply.read()

        direct = [await ask(backend.url, image) for image in IMAGES]
        backend.stats.reset()
        proxied = await asyncio.gather(*(ask(sidecar.url, image) for image in IMAGES * 4))
        assert proxied == direct * 4
        assert backend.stats.calls < len(proxied) / 4


async def test_each_caller_gets_its_own_id_and_error(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    async with pillion("--upstream", backend.url, "--protocol", "open-inference") as sidecar:

        async def ask(base: str, index: int) -> tuple[int, object]:
            image = IMAGES[index % len(IMAGES)]
            tensor = {
                "name": "image",
                "datatype": "FP32",
                "shape": [1, 64],
                "data": image if index % 5 else image[:-1],
            }
            body = {"id": f"call-{index}", "inputs": [tensor]}
            async with http.post(f"{base}/v2/models/digits/infer", json=body) as reply:
                return reply.status, await reply.json()

        proxied = await asyncio.gather(*(ask(sidecar.url, index) for index in range(40)))
        direct = [await ask(backend.url, index) for index in range(40)]
        assert proxied == direct
        assert {status for status, _ in proxied} == {200, 400}


async def test_invalid_json_gets_the_backends_own_answer(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    async with pillion("--upstream", backend.url, "--protocol", "kserve-v1") as sidecar:
        answers = []
        for base in (backend.url, sidecar.url):
            async with http.post(f"{base}/v1/models/digits:predict", data=b'{"instances": [[1,') as reply:
                answers.append((reply.status, await reply.read()))
        assert answers[0] == answers[1]
        assert answers[0][0] == 400


async def test_a_body_over_the_limit_never_reaches_the_backend(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    settings = ("server.limits.body=1KiB", "upstreams.model.health.every=0s", "loading.mode=off")
    async with pillion(
        "--upstream", backend.url, *(word for key in settings for word in ("--set", key))
    ) as sidecar:
        async with http.post(f"{sidecar.url}/echo", data=b"x" * 2048) as reply:
            assert reply.status == 413
            assert "http_request_error" in reply.headers["Proxy-Status"]
        assert backend.stats.requests == 0


async def test_an_upstream_that_dies_mid_answer_is_never_a_short_body(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    async with pillion("--upstream", backend.url) as sidecar:
        async with http.get(f"{sidecar.url}/bytes/100", headers={"Demo-Fault": "close-at=60"}) as reply:
            assert reply.status == 502
        with pytest.raises(aiohttp.ClientError):
            async with http.get(
                f"{sidecar.url}/bytes/5000000", headers={"Demo-Fault": "reset-at=1000000"}
            ) as reply:
                await reply.read()
        async with http.get(f"{sidecar.url}/bytes/100") as reply:
            assert len(await reply.read()) == 100


async def test_large_bodies_pass_both_ways(backend: DemoServer, http: aiohttp.ClientSession) -> None:
    payload = bytes(range(256)) * 20_000
    async with pillion("--upstream", backend.url) as sidecar:
        async with http.post(f"{sidecar.url}/echo", data=io.BytesIO(payload)) as reply:
            assert await reply.read() == payload
        async with http.get(f"{sidecar.url}/bytes/3000000?chunked") as reply:
            assert len(await reply.read()) == 3_000_000


async def test_an_unreachable_upstream_is_no_reason_not_to_start(http: aiohttp.ClientSession) -> None:
    async with pillion("--upstream", "http://127.0.0.1:1") as sidecar:
        async with http.get(f"{sidecar.url}/anything") as reply:
            assert reply.status in {502, 503}
            assert "error" in await reply.json()
        async with http.get(f"{sidecar.admin}/livez") as reply:
            assert reply.status == 200
        async with http.get(f"{sidecar.admin}/readyz?verbose") as reply:
            assert reply.status == 503
            assert "127.0.0.1:1" in await reply.text()
        code, _, err = await run_pillion("healthcheck", "--admin", sidecar.admin)
        assert code == 1
        assert "127.0.0.1:1" in err


async def are_in_flight(count: int, sidecar: Sidecar, http: aiohttp.ClientSession) -> bool:
    async with http.get(f"{sidecar.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return f"pillion_requests_in_flight {count}.0" in lines


async def is_draining(sidecar: Sidecar, http: aiohttp.ClientSession) -> bool:
    async with http.get(f"{sidecar.admin}/readyz") as reply:
        return reply.status == 503


async def test_sigterm_answers_what_was_admitted(http: aiohttp.ClientSession) -> None:
    release = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(response(b"late"))

    async with held_back(hold) as url, pillion("--upstream", url) as sidecar:

        async def slow() -> int:
            async with http.get(f"{sidecar.url}/slow") as reply:
                return reply.status

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(slow()) for _ in range(8)]
            await until_told(partial(are_in_flight, 8, sidecar, http))
            sidecar.signal(signal.SIGTERM)
            await until_told(partial(is_draining, sidecar, http))
            release.set()
        assert [call.result() for call in calls] == [200] * 8
        assert await sidecar.wait() == 0


async def test_admin_answers_probes_metrics_and_status(
    backend: DemoServer, http: aiohttp.ClientSession
) -> None:
    async with pillion("--upstream", backend.url, "--protocol", "open-inference") as sidecar:
        async with http.get(f"{sidecar.url}/v2/health/ready") as reply:
            assert reply.status == 200, "health on the data port stays the backend's"
        async with http.get(f"{sidecar.admin}/startupz") as reply:
            assert reply.status == 200
        async with http.get(f"{sidecar.admin}/metrics") as reply:
            text = await reply.text()
        assert (
            'pillion_requests_total{model="",outcome="ok",protocol="http",route="open-inference/ready"} 1.0'
            in text
        )
        assert "pillion_upstream_connections{" in text
        code, out, _ = await run_pillion("status", "--admin", sidecar.admin)
        document = json.loads(out)
        assert code == 0
        assert document["state"] == "ready"
        assert {listener["name"] for listener in document["listeners"]} == {"http", "admin"}
        assert (await run_pillion("healthcheck", "--admin", sidecar.admin))[0] == 0


async def test_a_taken_port_is_a_clear_error(backend: DemoServer) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    code, _, err = await run_pillion(
        "serve",
        "--upstream",
        backend.url,
        "--set",
        f"server.http.listen=127.0.0.1:{port}",
        "--set",
        "server.admin.listen=127.0.0.1:0",
    )
    assert code == 1
    assert str(port) in err
    assert "Traceback" not in err
    taken.close()


async def test_a_bad_file_is_refused_with_every_problem_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "pillion.yaml"
    file.write_text(
        "version: 1\nserver:\n  limit: {body: 1}\nupstreams:\n  model: {http: ['http://h:1'], timeouts: {idle: 30}}\n"
    )
    for verb in (("serve", "-c"), ("check", "-c")):
        code, out, err = await run_pillion(*verb, str(file))
        assert code == 3
        text = out + err
        assert f"{file}:3:3: server.limit: " in text
        assert "did you mean limits" in text
        assert f"{file}:5:" in text
        assert "30s" in text


async def test_dump_of_what_serve_would_run(backend: DemoServer) -> None:
    code, out, _ = await run_pillion("dump", "--upstream", backend.url, "--origin")
    assert code == 0
    assert backend.url in out
    assert "command line" in out
    code, out, _ = await run_pillion("schema")
    assert json.loads(out)["properties"]["upstreams"]
