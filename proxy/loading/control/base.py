"""What every control dialect offers, and the HTTP beneath most of them.

Control is not the data path: a few calls a minute, on an ordinary `aiohttp.ClientSession` that the loader
owns. No call here bounds its own time; the loader cancels what hangs, and then makes sure that nothing stays
half loaded.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from proxy.loading.actions import FailureKind, Report

__all__ = ("Answer", "Control", "ControlError", "ControlHttp", "names_memory", "poll", "understood")

_POLL_FIRST_S, _POLL_GROWTH, _POLL_MOST_S = 0.05, 1.5, 1.0
_DETAIL_BYTES = 300
_MEMORY_WORDS = ("out of memory", "outofmemory", "oom", "insufficient memory", "cuda_error_out", "bad_alloc")


class ControlError(Exception):
    """The backend did not do what it was asked; `kind` says what follows from that."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: FailureKind = kind
        self.detail = detail


class Control(Protocol):
    """One backend's models."""

    protocol: str
    can_unload: bool
    can_cancel: bool
    """Whether a load that nobody waits for may be broken off."""

    async def listing(self, names: tuple[str, ...]) -> dict[str, Report]:
        """What the backend knows; `names` are the models that the configuration speaks of. ControlError."""

    async def load(self, model: str) -> int:
        """Return once `model` is loaded: its size in bytes, 0 where the backend does not tell.
        ControlError."""

    async def unload(self, model: str) -> None:
        """Return once `model` holds no memory; harmless when it is not loaded. ControlError."""

    def is_not_ready(self, status: int, body: bytes) -> bool:
        """Whether an inference answer means that the model is not loaded, in this dialect."""


class Answer(NamedTuple):
    """Status and body of a control call."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether the backend agreed."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """What the backend said, for people."""
        return self.body[:_DETAIL_BYTES].decode(errors="replace").strip()

    def json(self) -> Any:  # noqa: ANN401 - whatever the backend sent
        """The body as JSON; ControlError when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise ControlError("refused", f"not JSON: {self.text}") from error

    def failure(self) -> ControlError:
        """The error that this answer amounts to."""
        if self.status == 507 or names_memory(self.body):
            return ControlError("memory", self.text)
        if self.status == 404:
            return ControlError("missing", self.text)
        if self.status in {408, 504}:
            return ControlError("timeout", self.text)
        return ControlError(
            "unreachable" if self.status in {429, 502} else "refused", f"{self.status} {self.text}"
        )


def names_memory(text: bytes) -> bool:
    """Whether an error text speaks of exhausted memory."""
    lower = text.lower()
    return any(word.encode() in lower for word in _MEMORY_WORDS)


@contextmanager
def understood() -> Iterator[None]:
    """Answers that are not shaped as their dialect says become a ControlError, whatever they break."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ControlError("refused", f"unexpected answer: {error!r}") from error


class ControlHttp:
    """Control calls below one base URL."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self._base = base_url.rstrip("/")

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """One call; `body` is sent as JSON. ControlError when nobody answers."""
        return await self.send(method, path, None if body is None else msgspec.json.encode(body))

    async def send(self, method: str, path: str, data: bytes | None) -> Answer:
        """One call with a body that is JSON text already. ControlError when nobody answers."""
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self._base + path, data=data, headers=headers
            ) as response:
                return Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ControlError("unreachable", f"{type(error).__name__}: {error}") from error

    async def get(self, path: str) -> Any:  # noqa: ANN401 - whatever the backend sent
        """The JSON of a GET that must succeed; ControlError."""
        answer = await self.ask("GET", path)
        if not answer.is_ok:
            raise answer.failure()
        return answer.json()


async def poll(is_done: Callable[[], Awaitable[bool]]) -> None:
    """Ask at growing intervals up to a second, for dialects that do not say when something ends."""
    pause = _POLL_FIRST_S
    while not await is_done():
        await asyncio.sleep(pause)
        pause = min(_POLL_MOST_S, pause * _POLL_GROWTH)
