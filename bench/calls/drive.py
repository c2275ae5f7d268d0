"""Runs the client of gRPC calls in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.calls.client import CallResult, CallSpec
from bench.load import in_own_process

if TYPE_CHECKING:
    from bench.subjects import Running
    from bench.suites.common import Options

__all__ = ("called",)


async def called(
    subject: Running, options: Options, *, core: int | None = None, **spec: object
) -> CallResult:
    """Measure with a `CallSpec`; `LoadFailed` when the subject is not there."""
    told = CallSpec(
        url=subject.url,
        seconds=options.seconds,
        core=options.cores.load if core is None else core,
        pid=subject.pid,
        **spec,  # type: ignore[arg-type]  # checked by msgspec
    )
    return await in_own_process("bench.calls.client", told, CallResult)
