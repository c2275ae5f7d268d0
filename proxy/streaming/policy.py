"""What an operator says about bodies in transit (YAML: ``models.<glob>.stream``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.fields import Duration, Policy, Size

__all__ = ("StreamPolicy",)


class StreamPolicy(Policy):
    """How answers that are not small are passed on to the client."""

    chunk: Annotated[Size, Field(ge=16 << 10, le=1 << 20)] = 64 << 10
    """Bytes handed to a slow reader at once to begin with; adapts to its bandwidth (16 KiB to 1 MiB)."""
    high_water: Annotated[Size, Field(ge=16 << 10)] = 256 << 10
    """Bytes of one answer that may wait for its reader before the backend is paused; resumed at a quarter."""
    stall: Duration = 60.0
    """Span in which a reader may take nothing before its connection is aborted."""
    compress: Literal["off", "on"] = "off"
    """`on`: encode streamed text (zstd, br or gzip, as the client accepts) that is not encoded already."""
    heartbeat: Duration = 0.0
    """Silence after which an event stream gets a comment that keeps its connection alive; 0s: never."""
    loading_heartbeat: Duration = 0.0
    """Wait for a model's load after which an event stream's reader is told 200 and gets comments at this rate
    until the answer begins; an error then comes as a last event. 0s: never, the status tells the truth."""
    error_event: bool = False
    """Tell the reader of an event stream in a last event why it breaks off; its connection is then closed."""
