"""What an answer says about the endpoint that gave it (pure).

An HTTP answer is judged by its status. A gRPC answer has status 200 whatever became of the call: what counts
stands in its trailers, and is put in HTTP's terms so that one policy fits both. Two gRPC answers tell less
than they seem to. One that is still arriving has not said how it ends. And `DEADLINE_EXCEEDED` is about the
span that the caller gave, as is our own `DeadlineExceeded`: counted as a failure it would let an impatient
client take healthy endpoints out of use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import Stream
from proxy.http2.grpc import http_status

if TYPE_CHECKING:
    from proxy.exchange import Reply

__all__ = ("grpc_status", "verdict")


def grpc_status(reply: Reply) -> int:
    """How a gRPC answer ended, in HTTP's terms; 200 while it is still arriving."""
    if isinstance(reply.body, Stream):
        return reply.status
    return http_status(reply.status, reply.trailers or reply.headers)


def verdict(reply: Reply, *, is_grpc: bool) -> int | None:
    """The status to judge the endpoint by; None when the answer says nothing about it."""
    if not is_grpc:
        return reply.status
    status = grpc_status(reply)
    return None if status == 504 and reply.status == 200 else status
