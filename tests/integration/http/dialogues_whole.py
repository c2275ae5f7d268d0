"""The whole proxy as a configuration makes it: its other ports, its metrics, its models, its parts."""

from __future__ import annotations

import asyncio
import re
import tomllib
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING, Final

import httptools.parser.parser as llhttp
from hpack import Encoder

from proxy.config.load import load_text
from proxy.config.problems import Problem
from proxy.errors import ConfigError
from proxy.http2 import frames as f
from proxy.http2.errors import describe
from tests.integration.http.conformance import Backend
from tests.integration.http.dialogues import dialogue
from tests.support.http2_cases import POST, REQUEST, headers
from tests.support.http2_peer import HANDSHAKE, parse
from tests.support.raw_client import RawClient, request
from tests.support.waiting import PATIENCE_S
from tests.support.whole import serving
from tests.support.wire import response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.app import App

CONFIG: Final = """version: 1
server:
  http: {{listen: "127.0.0.1:0"}}
  grpc: {{listen: "127.0.0.1:0"}}
  admin: {{listen: "127.0.0.1:0"}}
upstreams:
  model: {{protocol: {protocol}, http: ["{url}"], health: {{every: 0s}}, pool: {{http: {{min: 0}}}}}}
observe: {{access_log: {{format: "off"}}}}
"""


@asynccontextmanager
async def _proxy(
    protocol: str = "generic", more: str = "", status: bytes = b"200 OK"
) -> AsyncIterator[tuple[App, Backend]]:
    """A whole proxy and the backend behind it, which answers everything with `status`."""
    async with Backend([response(b"[]", status=status)]) as server:
        config = CONFIG.format(protocol=protocol, url=server.url) + more
        async with serving(config) as app:
            yield app, server


# ------------------------------------------------------------------ the admin port
@dialogue(
    "S11",
    "nothing of the admin port is on the data port",
    sent="GET /metrics, GET /config, GET /livez, POST /drain",
    expected="backend: GET /metrics, GET /config, GET /livez, POST /drain",
)
async def admin_is_elsewhere() -> str:
    asked = ((b"GET", b"/metrics"), (b"GET", b"/config"), (b"GET", b"/livez"), (b"POST", b"/drain"))
    async with _proxy() as (app, server), RawClient(app.http.address) as client:
        for method, target in asked:
            await client.ask(method, target)
        seen = [message.start.removesuffix(b" HTTP/1.1") for message in server.requests]
    return f"backend: {', '.join([line.decode() for line in seen if tuple(line.split(b' ')) in asked])}"


@dialogue(
    "S11",
    "a web page reaches the admin port neither by a name of its own nor from elsewhere",
    sent="GET /metrics with Host: evil.example; POST /drain with Origin: http://evil.example; GET /drain",
    expected="client: 403, 403, 405 · the proxy goes on",
)
async def admin_and_browsers() -> str:
    async with _proxy() as (app, _):
        seen = []
        for sent in (
            request(b"GET", b"/metrics", host=b"evil.example"),
            request(b"POST", b"/drain", b"", b"Origin: http://evil.example", host=b"127.0.0.1"),
            request(b"GET", b"/drain", host=b"127.0.0.1"),
        ):
            async with RawClient(app.admin.address) as client:
                await client.send(sent)
                seen.append(str((await client.receive()).status))
        goes_on = "goes on" if app.life.state.value == "ready" else "drains"
    return f"client: {', '.join(seen)} · the proxy {goes_on}"


# ------------------------------------------------------------------ metrics
@dialogue(
    "S14",
    "made-up names are no labels",
    sent="50 models and 50 paths that nobody knows",
    expected="metrics: models: other · routes of the configuration only",
)
async def cardinality() -> str:
    async with (
        _proxy("kserve-v1", status=b"404 Not Found") as (app, _),
        RawClient(app.http.address) as client,
    ):
        for number in range(50):
            await client.ask(b"POST", b"/v1/models/evil-%d:predict" % number, b'{"instances": [1]}')
            await client.ask(b"GET", b"/evil/%d" % number)
        async with RawClient(app.admin.address) as admin:
            await admin.send(request(b"GET", b"/metrics", host=b"127.0.0.1"))
            page = (await admin.receive()).body.decode()
    models = set(re.findall(r'\bmodel="([^"]*)"', page)) - {""}
    routes = [name for name in re.findall(r'\broute="([^"]*)"', page) if "evil" in name]
    of_whom = "of clients too" if routes or "evil" in page else "of the configuration only"
    return f"metrics: models: {', '.join(sorted(models))} · routes {of_whom}"


# ------------------------------------------------------------------ files
def _verdict(text: str) -> str:
    try:
        load_text("version: 1\n" + text, "pillion.yaml", environ={})
    except ConfigError as error:
        (first, *_) = [problem for problem in error.problems if isinstance(problem, Problem)]
        return f"line {first.place.line}"
    return "accepted"


UPSTREAM: Final = 'upstreams: {model: {http: ["http://127.0.0.1:1"]}}\n'


@dialogue(
    "S18",
    "a file that is wrong is refused, and where",
    sent="an unknown key; a key twice; a thousandfold alias; an object of Python; a number without its unit",
    expected="line 3; line 3; line 7; line 3; line 3",
)
async def wrong_files() -> str:
    bomb = "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"x-{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    found = [
        _verdict(UPSTREAM + "sever: {}\n"),
        _verdict(UPSTREAM + UPSTREAM),
        _verdict(UPSTREAM + bomb),
        _verdict(UPSTREAM + "server: !!python/object/apply:os.system [id]\n"),
        _verdict(UPSTREAM + "server: {timeouts: {header: 5}}\n"),
    ]
    return "; ".join(found)


# ------------------------------------------------------------------ HTTP/2
def _odd(count: int) -> range:
    return range(1, 2 * count, 2)


def _bomb() -> bytes:
    """A block of few bytes that names one large field of the dynamic table again and again."""
    encoder = Encoder()
    first = encoder.encode([*REQUEST, (b"x-bomb", b"a" * 3900)], huffman=False)
    again = encoder.encode([*REQUEST, *[(b"x-bomb", b"a" * 3900)] * 4000], huffman=False)
    return f.frame(f.HEADERS, 5, 1, first) + f.frame(f.HEADERS, 5, 3, again)


FLOODS: Final = {
    "rapid reset": b"".join(headers(i, *REQUEST) + f.reset_frame(i, 8) for i in _odd(3000)),
    "resets that we are made to send": b"".join(
        headers(i, *POST, end=False) + f.window_update_frame(i, 0) for i in _odd(3000)
    ),
    "a head that never ends": headers(1, *REQUEST, flags=0)
    + f.frame(f.CONTINUATION, 0, 1, b"\0\1a\1b" * 3000) * 30,
    "empty continuations": headers(1, *REQUEST, flags=0) + f.frame(f.CONTINUATION, 0, 1) * 5000,
    "SETTINGS": f.settings_frame(()) * 5000,
    "PING": f.ping_frame(b"12345678", ack=False) * 5000,
    "empty DATA": headers(1, *POST, end=False) + f.frame(f.DATA, 0, 1) * 5000,
}


async def _flooded(place: str, sent: bytes) -> str:
    """How the connection ends on which `sent` is sent: the error code of GOAWAY."""
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        writer.write(HANDSHAKE + sent)
        async with asyncio.timeout(PATIENCE_S):
            while data := await reader.read(65536):
                received += data
    except ConnectionError:
        pass  # it closed while we were sending on
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
    codes = [
        describe(unpack(">I", payload[4:8])[0]) for kind, _, _, payload in parse(received) if kind == f.GOAWAY
    ]
    return codes[-1] if codes else "closed"


@dialogue(
    "S19",
    "floods of HTTP/2 end the connection",
    sent=", ".join(FLOODS),
    expected=", ".join(["ENHANCE_YOUR_CALM"] * len(FLOODS)),
)
async def floods() -> str:
    async with _proxy() as (app, _):
        assert app.grpc is not None
        return ", ".join([await _flooded(app.grpc.address, sent) for sent in FLOODS.values()])


@dialogue(
    "S19",
    "a head that grows by decoding",
    sent="4,000 times one field of the dynamic table",
    expected="ENHANCE_YOUR_CALM",
)
async def hpack_bomb() -> str:
    async with _proxy() as (app, _):
        assert app.grpc is not None
        return await _flooded(app.grpc.address, _bomb())


# ------------------------------------------------------------------ models
@dialogue(
    "S22",
    "names that clients make up load nothing",
    sent="200 inference requests for 20 models that the backend does not have",
    expected="backend: no load, no unload",
)
async def made_up_models() -> str:
    more = "loading: {mode: predictive}\n"
    async with _proxy("open-inference", more, b"404 Not Found") as (app, server):
        async with RawClient(app.http.address) as client:
            for number in range(200):
                await client.ask(b"POST", b"/v2/models/evil-%d/infer" % (number % 20), b"{}")
        asked = {message.target.decode() for message in server.requests}
    steered = sorted(target for target in asked if target.endswith(("/load", "/unload")))
    return f"backend: {', '.join(steered) or 'no load, no unload'}"


# ------------------------------------------------------------------ parts
@dialogue(
    "S23",
    "what reads the wire is what was tested",
    sent="nothing: the installed parts are looked at",
    expected="the backend's parser is compiled · aiohttp from 3.14.3 · every part bounded above",
)
async def parts() -> str:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    loose = [name for name in project["dependencies"] if "<" not in name]
    compiled = "compiled" if str(llhttp.__file__).endswith(".so") else "not compiled"
    found = tuple(int(part) for part in version("aiohttp").split(".")[:3])
    since = "from 3.14.3" if found >= (3, 14, 3) else ".".join(map(str, found))
    bounded = f"unbounded: {', '.join(loose)}" if loose else "every part bounded above"
    return f"the backend's parser is {compiled} · aiohttp {since} · {bounded}"
