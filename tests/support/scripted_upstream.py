"""An upstream that follows a script, so that a test reads like the dialogue it is about.

    async with ScriptedUpstream(
        [Expect(b"POST /infer"), Send(response(b"one")), Close()],    # first connection
        [Expect(), Send(response(b"two")), Stall()],                  # second connection
    ) as upstream:
        …                                                          # talk to the proxy before `upstream.url`
    assert len(upstream.requests) == 2

The n-th connection follows the n-th dialogue; further connections follow the last one. Leaving the block
raises what went against a script (an unexpected request, a peer that left early). A dialogue that is still
waiting then is cut off; `upstream.finished` counts those that were played to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.support.waiting import stop_accepting
from tests.support.wire import RawMessage, read_message, response

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = (
    "Close",
    "Expect",
    "ExpectEof",
    "HalfClose",
    "Reset",
    "ScriptedUpstream",
    "Send",
    "Stall",
    "Until",
    "response",
)


@dataclass(frozen=True, slots=True)
class Expect:
    """Read one whole request; its head and body must contain `part`."""

    part: bytes = b""


@dataclass(frozen=True, slots=True)
class ExpectEof:
    """The peer closes, and sends nothing before."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write exactly these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until the test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Stall:
    """Say nothing until the test ends or the peer leaves."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """FIN; go on reading."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with RST."""


Step = Expect | ExpectEof | Send | Until | Stall | HalfClose | Close | Reset


class ScriptedUpstream:
    """Listens on a free port; owns one task for each connection, which ends with its dialogue."""

    def __init__(self, *dialogues: Sequence[Step]) -> None:
        self._dialogues = dialogues
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._server: asyncio.Server
        self.url = ""
        self.connections = 0
        self.finished = 0
        self.requests: list[RawMessage] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_accepting(self._server)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._errors and error is None:
            raise ExceptionGroup("the dialogue went otherwise", [_as_exception(e) for e in self._errors])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialogue = self._dialogues[min(self.connections, len(self._dialogues) - 1)]
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._play(dialogue, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.finished += 1
        else:
            self._errors.append(error)

    async def _play(
        self, dialogue: Sequence[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            for step in dialogue:
                await self._take(step, reader, writer)
        finally:
            writer.close()

    async def _take(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match step:
            case Send(data):
                writer.write(data)
                await writer.drain()
            case Expect(part):
                message = await read_message(reader)
                self.requests.append(message)
                head = b"\r\n".join((message.start, *(b"%s: %s" % field for field in message.headers)))
                assert part in head + b"\r\n\r\n" + message.body, f"{part!r} is not in {message}"
            case ExpectEof():
                surplus = await reader.read()
                assert not surplus, f"expected the end, got {surplus!r}"
            case Until(event):
                await event.wait()
            case Stall():
                with contextlib.suppress(ConnectionError):  # the peer may leave as it likes
                    await reader.read()
            case HalfClose():
                writer.write_eof()
            case Close():
                writer.close()
            case Reset():
                _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    peer = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
