"""The producer's side of a stream, which remembers what the stream asked of it."""

from __future__ import annotations

__all__ = ("RecordedFlow",)


class RecordedFlow:
    """Implements `Flow`; `asked` are its words in their order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def abandon(self) -> None:
        self.asked.append("abandon")
