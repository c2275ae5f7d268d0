"""What tests of control clients ask, and a gRPC server that answers by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.exchange import Call, Reply, Stream
from proxy.loading.actions import Report
from proxy.loading.control.base import Control, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ("LOADING", "READY", "UNLOADED", "Grpc", "fails", "states")


READY = Report("ready")
UNLOADED = Report("unloaded")
LOADING = Report("loading")


async def states(control: Control, *names: str) -> dict[str, str]:
    return {name: report.state for name, report in (await control.listing(names)).items()}


async def fails(control: Control, model: str) -> tuple[str, str]:
    with pytest.raises(ControlError) as caught:
        await control.load(model)
    return caught.value.kind, caught.value.detail


# ------------------------------------------------------------------ gRPC
class Grpc:
    """Answers unary calls by path; remembers them."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[bytes], bytes | tuple[int, str]]] = {}
        self.asked: list[tuple[str, bytes]] = []
        self.is_streamed = False

    async def exchange(self, call: Call) -> Reply:
        assert isinstance(call.body, bytes)
        path, message = call.target.decode(), call.body[5:]
        self.asked.append((path, message))
        answer = self.answers.get(path)
        made = (12, "unimplemented") if answer is None else answer(message)
        if isinstance(made, tuple):
            fields = ((b"grpc-status", str(made[0]).encode()), (b"grpc-message", made[1].encode()))
            return Reply(200, fields)
        frame = b"\x00" + len(made).to_bytes(4, "big") + made
        if not self.is_streamed:
            return Reply(200, ((b"grpc-status", b"0"),), frame)
        body = Stream(None)
        body.feed(frame)
        body.end(((b"grpc-status", b"0"),))
        return Reply(200, (), body)
