"""How long the exchange that a connection has in hand may last, and whom it waits for (pure).

Theory of operation
-------------------
An exchange is overdue at its call's deadline, or when the backend has been silent for too long: for its first
byte while there is no head, then between any two. While it is the client who is slow, to take its answer or
to send its request, the backend owes nothing and only the deadline counts. An answer whose reader has left
may end until `Download.leave_at`.

Nobody sets a timer for this: the alarm that all connections of a pool share is told no more than when to look
next, and then asks each of them (`overdue_at`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.errors import DeadlineExceeded, ProxyError, ReadTimeout
from proxy.pooling.upkeep import Aged

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.exchange import Call
    from proxy.pooling.alarm import Alarm
    from proxy.pooling.download import Download
    from proxy.pooling.policy import TimeoutPolicy
    from proxy.pooling.reply_reader import ReplyReader
    from proxy.pooling.tunnel import Tunnel
    from proxy.pooling.upload import Upload

__all__ = ("Paced",)


class Paced(Aged):
    """A connection as its pool's clock sees it; see the module's text."""

    __slots__ = (
        "_alarm",
        "_call",
        "_download",
        "_heard_at",
        "_now",
        "_reader",
        "_timeouts",
        "_tunnel",
        "_upload",
    )

    def __init__(
        self, reader: ReplyReader, timeouts: TimeoutPolicy, alarm: Alarm, now: Callable[[], float]
    ) -> None:
        super().__init__()
        # First what each token of a stream needs: compiled, it lies together in this order.
        self._download: Download | None = None
        self._reader = reader
        self._now = now
        self._heard_at = 0.0
        self._timeouts = timeouts
        self._alarm = alarm
        self._call: Call | None = None
        self._upload: Upload | None = None
        self._tunnel: Tunnel | None = None

    def overdue_at(self) -> float:
        """The instant at which the exchange in hand has lasted too long; inf when there is none."""
        call, download, upload = self._call, self._download, self._upload
        timeouts = self._timeouts
        if call is None:
            return math.inf
        if self._tunnel is not None:
            return self._tunnel.overdue_at(timeouts.idle)
        leave_at = math.inf if download is None else download.leave_at
        if (download is not None and download.is_paused) or (upload is not None and upload.is_starved):
            return min(call.deadline, leave_at)  # not the backend is slow
        patience_s = timeouts.first_byte if self._reader.head is None else timeouts.idle
        return min(call.deadline, leave_at, self._heard_at + patience_s)

    @property
    def held_up_since(self) -> float:
        """Since when the client has not taken of its answer, or sent of its request; inf when it keeps up."""
        download, upload = self._download, self._upload
        if download is not None:
            return download.paused_at
        return upload.fed_at if upload is not None and upload.is_starved else math.inf

    def heard(self) -> None:
        """The backend's silence counts from now."""
        self._heard_at = self._now()
        self._alarm.arm(self.overdue_at())

    def pause_writing(self) -> None:
        """The backend reads slowly: hold the upload."""
        if self._upload is not None:
            self._upload.pause()
            self.heard()

    def resume_writing(self) -> None:
        """The backend has caught up: go on."""
        if self._upload is not None:
            self._upload.resume()
            self.heard()

    def _lateness(self, now: float) -> ProxyError:
        """What is to be said of the exchange that is overdue."""
        if self._call is not None and now >= self._call.deadline:
            return DeadlineExceeded("the deadline passed while the backend was answering")
        return ReadTimeout("the backend was silent for too long")
