"""Two sessions wired to each other, and a raw client for a server session."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from proxy.http2 import frames as f
from proxy.http2.blocks import BlockWriter
from proxy.http2.limits import Limits
from proxy.http2.session import ClientSession, ServerSession
from tests.support.http2_cases import REQUEST, block
from tests.support.http2_events import apart
from tests.support.http2_peer import parse

if TYPE_CHECKING:
    from proxy.http2.events import Event
    from proxy.http2.session import Session

__all__ = ("GET", "HELLO", "OK", "POST", "TRAILERS", "WRITER", "Wire", "kinds", "only", "server", "started")

E = TypeVar("E")

WRITER = BlockWriter()
GET = WRITER.request(b"GET", b"http", b"/", ((b"host", b"a"),))
POST = WRITER.request(b"POST", b"http", b"/", ((b"host", b"a"),))
OK = WRITER.response(200, ())
TRAILERS = WRITER.trailers(((b"grpc-status", b"0"),))
HELLO = f.PREFACE + f.settings_frame(()) + f.settings_ack()


def server(limits: Limits | None = None) -> ServerSession:
    """A server session behind its handshake, with nothing left to send."""
    session = ServerSession(limits or Limits())
    session.receive(HELLO, now=0.0)
    session.data_to_send()
    return session


def started(stream_id: int = 1, *, end: bool = False) -> bytes:
    """The head of a raw client's request."""
    return f.frame(f.HEADERS, f.END_HEADERS | end, stream_id, block(*REQUEST))


def kinds(session: Session) -> list[int]:
    """The types of the frames that a session wants to send."""
    return [kind for kind, _, _, _ in parse(session.data_to_send())]


def only(events: list[Event], kind: type[E]) -> E:
    """The one event of a kind."""
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


class Wire:
    """A client and a server session behind their handshake."""

    def __init__(self, client: Limits | None = None, server: Limits | None = None) -> None:
        self.client = ClientSession(client or Limits())
        self.server = ServerSession(server or Limits())
        for _ in range(2):
            self.to_server()
            self.to_client()

    def to_server(self) -> list[Event]:
        """Deliver what the client has to say."""
        return apart(self.server.receive(self.client.data_to_send(), now=0.0))

    def to_client(self) -> list[Event]:
        """Deliver what the server has to say."""
        return apart(self.client.receive(self.server.data_to_send(), now=0.0))

    def settle(self) -> list[Event]:
        """Deliver both ways until nobody has anything to say; all events of both sides."""
        events: list[Event] = []
        while self.client.wants_to_send or self.server.wants_to_send:
            events += self.to_server()
            events += self.to_client()
        return events
