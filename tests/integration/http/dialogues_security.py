"""What an attacker tries beyond malformed messages: bombs, logs, keys, certificates, other callers' batches."""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
import warnings
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import trustme

from proxy.ingress.policy import AuthPolicy, LimitPolicy
from proxy.ingress.rules import HeadRules
from proxy.telemetry.access_line import Scribe, as_json
from proxy.telemetry.ended import Ended
from tests.integration.http.cases_smuggling import KEYS
from tests.integration.http.conformance import Backend
from tests.integration.http.dialogues import dialogue, url_of
from tests.integration.http.tls_rig import ask, client_context, listening, mutual, showing
from tests.support.raw_client import RawClient
from tests.support.stage import Stage, stage
from tests.support.waiting import until
from tests.support.wire import RawMessage, read_message, response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PREDICT: Final = b"/v1/models/m:predict"
SPIFFE: Final = "spiffe://example.org/ns/prod/sa/client"


# ------------------------------------------------------------------ bombs
async def _inferred(body: bytes, *lines: bytes) -> tuple[RawMessage, int]:
    """What the backend of an inference path gets of `body`, and the client's status."""
    answers = [response(b'{"predictions": [1]}', b"Content-Type: application/json")]
    async with Backend(answers) as server, stage(server.url, protocol="kserve-v1") as front:
        async with RawClient(front.url) as client:
            answer = await client.ask(b"POST", PREDICT, body, *lines)
        return server.requests[0], answer.status


@dialogue(
    "S7",
    "a compressed body is not inflated, for a batch neither",
    sent="10 MiB of zeros as gzip, to a path that is batched",
    expected="backend: Content-Encoding: gzip and the same bytes · client: 200",
)
async def compressed_bomb() -> str:
    bomb = gzip.compress(bytes(10 << 20))
    seen, status = await _inferred(bomb, b"Content-Encoding: gzip")
    coding = (seen.header(b"content-encoding") or b"").decode()
    bytes_seen = "the same bytes" if seen.body == bomb else f"{len(seen.body)} bytes"
    return f"backend: Content-Encoding: {coding} and {bytes_seen} · client: {status}"


@dialogue(
    "S7",
    "JSON of 100,000 levels is no reason to fail",
    sent='{"instances": [[[…]]]}, to a path that is batched',
    expected="backend: the same bytes · client: 200",
)
async def deep_json() -> str:
    body = b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    seen, status = await _inferred(body)
    return f"backend: {'the same bytes' if seen.body == body else 'others'} · client: {status}"


@dialogue(
    "S7",
    "numbers stay as they are written",
    sent='{"instances": [[123456789012345678901234567890, 1.0e999, -0.0, 1.10]]}, to a path that is batched',
    expected="backend: [123456789012345678901234567890, 1.0e999, -0.0, 1.10] · client: 200",
)
async def numbers_as_written() -> str:
    row = b"[123456789012345678901234567890, 1.0e999, -0.0, 1.10]"
    seen, status = await _inferred(b'{"instances": [%b]}' % row)
    return f"backend: {row.decode() if row in seen.body else seen.body.decode()} · client: {status}"


# ------------------------------------------------------------------ logs
class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


@dialogue(
    "S13",
    "a refused field is repeated nowhere",
    sent="Authorization: Bearer s3cret\\x01",
    expected="client: 400 without the secret · log: without the secret, without a traceback",
)
async def refused_secret() -> str:
    kept, log = _Kept(), logging.getLogger("proxy")
    log.addHandler(kept)
    try:
        async with stage("http://127.0.0.1:1") as front, RawClient(front.url) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer s3cret\x01\r\n\r\n")
            answer = await client.read_to_end()
    finally:
        log.removeHandler(kept)
    said = any("s3cret" in record.getMessage() or record.exc_info for record in kept.records)
    told = "with" if b"s3cret" in answer else "without"
    logged = "with either" if said else "without the secret, without a traceback"
    return f"client: {answer[9:12].decode()} {told} the secret · log: {logged}"


@dialogue(
    "S13",
    "a target cannot forge a line of the access log",
    sent="GET /\\x9b31m{\\x85}?token=s3cret, X-Request-Id: a\\x9bb",
    expected="log: one line of printable ASCII, token=***, a request id of our own",
)
async def hostile_log_line() -> str:
    async with (
        Backend([response(b"ok")]) as server,
        stage(server.url) as front,
        RawClient(front.url) as client,
    ):
        await client.ask(b"GET", b"/\x9b31m{\x85}?token=s3cret", b"", b"X-Request-Id: a\x9bb")
        (call,) = front.telemetry.calls
        (ended,) = front.telemetry.ended
    line = Scribe().line(call, ended, "now")
    text = as_json(line).decode()
    assert isinstance(ended, Ended)
    shape = "one line of printable ASCII" if text[:-1].isascii() and text[:-1].isprintable() else repr(text)
    token = "token=***" if "token=***" in text and "s3cret" not in text else text
    name = "a request id of our own" if len(line.request_id) == 32 else line.request_id
    return f"log: {shape}, {token}, {name}"


# ------------------------------------------------------------------ TLS, certificates, keys
@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


@dialogue(
    "S16",
    "another host than the handshake's",
    sent="SNI model.example, Host: other.example",
    expected="client: 421 · backend: nothing",
)
async def misdirected() -> str:
    async with _folder() as folder, listening(mutual(folder)) as (front, server):
        answer = await ask(front, showing(folder, "dns:c"), host=b"other.example")
        return f"client: {answer.status} · backend: {server.requests or 'nothing'}"


@dialogue("S16", "TLS 1.1", sent="a handshake of TLS 1.1", expected="client: no handshake")
async def old_tls() -> str:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with _folder() as folder, listening(mutual(folder)) as (front, _):
        try:
            await ask(front, context)
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            return "client: no handshake"
        return "client: a handshake"


@dialogue(
    "S16",
    "client certificates of other names and of other authorities",
    sent="a listed name; another; one of an unknown authority; none at all",
    expected="client: 200, 403 forbidden, no handshake, no handshake · backend: once",
)
async def client_names() -> str:
    stranger = client_context()
    trustme.CA().issue_cert("client.example.org").configure_cert(stranger)
    seen = []
    async with _folder() as folder, listening(mutual(folder, f"uri:{SPIFFE}")) as (front, server):
        contexts = [
            showing(folder, f"uri:{SPIFFE}"),
            showing(folder, "dns:other"),
            stranger,
            client_context(),
        ]
        for context in contexts:
            try:
                answer = await ask(front, context)
            except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
                seen.append("no handshake")
            else:
                why = (answer.header(b"proxy-status") or b"").decode().partition('details="')[2].rstrip('"')
                seen.append(f"{answer.status} {why}".strip())
        return f"client: {', '.join(seen)} · backend: {'once' if len(server.requests) == 1 else 'again'}"


@dialogue(
    "S17",
    "the backend is told of certificates only where that is wanted, and by nobody else",
    sent="a certificate, and X-Forwarded-Client-Cert: URI=spiffe://example.org/admin; twice",
    expected=f'backend: no field; Subject="CN=client";URI={SPIFFE}',
)
async def told_of_certificates() -> str:
    seen = []
    for is_told in (False, True):
        settings = {"client_cert": is_told}
        async with _folder() as folder, listening(mutual(folder), forwarding=settings) as (front, server):
            line = b"X-Forwarded-Client-Cert: URI=spiffe://example.org/admin"
            await ask(front, showing(folder, f"uri:{SPIFFE}"), line)
            values = server.requests[0].all(b"x-forwarded-client-cert")
            seen.append(b"|".join(values).decode().partition(";")[2] or ("a field" if values else "no field"))
    return f"backend: {'; '.join(seen)}"


@dialogue(
    "S17",
    "a revoked key ends on an open connection",
    sent="the same request three times; the keys are replaced before the third",
    expected="client: 200, 200, 401, closed",
)
async def revoked_key() -> str:
    async with (
        Backend([response(b"ok")]) as server,
        stage(server.url, server=KEYS) as front,
        RawClient(front.url) as client,
    ):
        seen = [
            (await client.ask(b"GET", b"/", b"", b"Authorization: Bearer sesame")).status for _ in range(2)
        ]
        front.server.renew(HeadRules(LimitPolicy(), auth=AuthPolicy(keys=("0" * 64,)), name="pillion"))
        seen.append((await client.ask(b"GET", b"/", b"", b"Authorization: Bearer sesame")).status)
        ending = "closed" if await client.read_to_end() == b"" else "open"
        return f"client: {', '.join(map(str, seen))}, {ending}"


# ------------------------------------------------------------------ other callers' batches
@asynccontextmanager
async def _model(answer: Callable[[RawMessage], Awaitable[bytes]]) -> AsyncIterator[str]:
    """A backend that answers each request as `answer` says; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await answer(await read_message(reader)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        task.add_done_callback(lambda _: writer.close())
        tasks.add(task)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield url_of(listener)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def _is_inside(front: Stage, calls: int) -> bool:
    return front.admission.in_flight == calls


def _rows(message: RawMessage) -> str:
    return message.body.decode().partition("[")[2].rpartition("]")[0]


async def _crowd(*asked: tuple[bytes, bytes], poison: str = "") -> tuple[list[str], list[str]]:
    """Ask for (authorization, row) at once behind a call in flight; what the backend saw behind that, and the
    answers in order."""
    seen: list[str] = []
    is_open = asyncio.Event()

    async def answer(message: RawMessage) -> bytes:
        rows = _rows(message)
        if not seen:
            seen.append(rows)
            await is_open.wait()
        else:
            key = (message.header(b"authorization") or b"").decode()
            seen.append(f"{key} {rows}")
        if poison and poison in rows:
            return response(b'{"error": "bad row"}', status=b"400 Bad Request")
        values = rows.replace("[", "").replace("]", "")
        return response(b'{"predictions": [%b]}' % values.encode(), b"Content-Type: application/json")

    async with _model(answer) as url, stage(url, protocol="kserve-v1") as front:
        clients = [await RawClient(front.url).__aenter__() for _ in range(len(asked) + 1)]
        try:
            calls = zip(clients, ((b"first", b"[0]"), *asked), strict=True)
            for number, (client, (key, row)) in enumerate(calls, start=1):
                body = b'{"instances": [%b]}' % row
                lines = (b"Authorization: " + key, b"Content-Type: application/json")
                head = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%b\r\n\r\n"
                await client.send(head % (PREDICT, len(body), b"\r\n".join(lines)) + body)
                await until(partial(_is_inside, front, number))
            await until(lambda: bool(seen))
            is_open.set()
            answers = [await client.receive() for client in clients]
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)
    return sorted(seen[1:]), [f"{each.status} {each.body.decode()}" for each in answers[1:]]


@dialogue(
    "S21",
    "callers with different credentials share no batch",
    sent="three calls at once: key a, key b, key a",
    expected="backend: a [1],[3]; b [2] · clients: 1; 2; 3",
)
async def tenants_apart() -> str:
    seen, answers = await _crowd((b"a", b"[1]"), (b"b", b"[2]"), (b"a", b"[3]"))
    values = [answer.partition("[")[2].partition("]")[0] for answer in answers]
    return f"backend: {'; '.join(seen)} · clients: {'; '.join(values)}"


@dialogue(
    "S21",
    "one caller's bad row costs the others nothing",
    sent="three calls at once: rows 1, 666, 3; the backend refuses whatever holds 666",
    expected="clients: 200, 400, 200",
)
async def poisoned_batch() -> str:
    _, answers = await _crowd((b"a", b"[1]"), (b"a", b"[666]"), (b"a", b"[3]"), poison="666")
    return f"clients: {', '.join(answer[:3] for answer in answers)}"
