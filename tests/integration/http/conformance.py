"""Cases that a proxy must get right, as tables: what a client sends, what the backend and the client then
see.

A case is played over real sockets with bytes that no library has touched. What was seen is told in one line
for each side, and compared with the line that the case expects; the same lines make
``docs/http-conformance.md`` (``python -m tests.integration.http.conformance`` writes it).

The backend's line has its requests in order: the request line, the fields that the case shows, ``{n bytes}``
of body or the body itself when it is short, trailers after ``+``. The client's line has its answers in the
same form, and then ``open`` when another request was answered on the same connection, ``closed`` when it was
not."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.support.raw_client import RawClient
from tests.support.stage import stage
from tests.support.waiting import stop_accepting
from tests.support.wire import RawMessage, read_message, response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ("Backend", "Case", "Seen", "play")

NOTHING = "nothing"
_PROBE = b"GET /probe HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer sesame\r\nConnection: close\r\n\r\n"
_LONGEST_SHOWN = 40
_REQUEST_LINE = re.compile(rb"^([!-~]+) [!-~]+ HTTP/1\.1\r$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange. `answers` are what the backend sends to its requests in order (the last one repeats);
    `show` names the request and answer fields that matter; `settings` are the server's."""

    item: str
    title: str
    sent: bytes
    backend: str
    client: str
    answers: tuple[bytes, ...] = (response(b"ok"),)
    show: tuple[bytes, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    half_close: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What the two sides saw, as the tables tell it."""

    backend: str
    client: str


class Backend:
    """Records requests by an independent reader and answers each with bytes from a script."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self.requests: list[RawMessage] = []
        self.url = ""

    def hold(self) -> None:
        """Answer nothing until `let_go`."""
        self._may_answer.clear()

    def let_go(self) -> None:
        """Answer again."""
        self._may_answer.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_accepting(self._server)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also of a task that never began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                message = await read_message(reader)
                if message.target == b"/probe":
                    writer.write(response(b"probe"))
                    continue
                self.requests.append(message)
                await self._may_answer.wait()
                answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                writer.write(answer)
                if b"Connection: close" in answer or answer.startswith(b"HTTP/1.0"):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


async def play(case: Case) -> Seen:
    """Play `case` against a fresh proxy."""
    async with (
        Backend(case.answers) as backend,
        stage(backend.url, server=case.settings) as front,
        RawClient(front.url) as client,
    ):
        await client.send(case.sent)
        if case.half_close:
            client.half_close()
        answers, ending = await _listen(client, case)
        return Seen(
            " ‖ ".join(_told(message, case.show, message.start) for message in backend.requests) or NOTHING,
            " ‖ ".join([_told(answer, case.show, _status(answer)) for answer in answers] + [ending]),
        )


async def _listen(client: RawClient, case: Case) -> tuple[list[RawMessage], str]:
    """The answers to what was sent, and whether the connection serves another request."""
    answers: list[RawMessage] = []
    expected = case.client.count(" ‖ ") or 1
    methods = _REQUEST_LINE.findall(case.sent)
    for _ in range(expected):
        try:
            to_head = methods[len(answers) : len(answers) + 1] == [b"HEAD"]
            answers.append(await client.receive(to_head=to_head, skip_interim=False))
        except asyncio.IncompleteReadError:
            return answers, "closed"
        except ConnectionError:
            return answers, "reset"
    if case.half_close:
        return answers, "closed" if await client.read_to_end() == b"" else "surplus"
    try:
        await client.send(_PROBE)
        last = await client.receive()
    except asyncio.IncompleteReadError as error:
        return answers, "surplus" if error.partial else "closed"
    except ConnectionError:
        return answers, "closed"
    return answers, "open" if last.body == b"probe" else f"answered again: {_status(last)!r}"


def _status(answer: RawMessage) -> bytes:
    return b" ".join(answer.start.split(b" ")[1:])


def _told(message: RawMessage, show: tuple[bytes, ...], start: bytes) -> str:
    wanted = {name.lower() for name in show}
    parts = [start, *(b"%b: %b" % pair for pair in message.headers if pair[0].lower() in wanted)]
    if message.body and message.header(b"proxy-status") is None:  # our own words may change
        short = message.body if len(message.body) <= _LONGEST_SHOWN else b"%d bytes" % len(message.body)
        parts.append(b"{%b}" % short)
    parts += [b"+ %b: %b" % pair for pair in message.trailers]
    return _masked(b" | ".join(parts).replace(b"\r\n", b"\\r\\n").decode("latin-1"))


def _masked(text: str) -> str:
    """`text` less what differs from run to run."""
    text = re.sub(r"[0-9a-f]{32}", "<id>", text)
    text = re.sub(r"<id>-[0-9a-f]{16}-", "<id>-<span>-", text)
    text = re.sub(r"-[0-9a-f]{16}-(?=0[01])", "-<span>-", text)
    text = re.sub(r"127\.0\.0\.1:[0-9]+", "127.0.0.1:<port>", text)
    text = re.sub(r"(X-Forwarded-Port: )[0-9]+", r"\1<port>", text)
    return re.sub(r"Date: [A-Z][a-z]{2}, [^|]*GMT", "Date: <now>", text)
