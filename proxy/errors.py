"""The one error hierarchy: every failure says whose it is, what to answer, and whether to try again.

An upstream answer with an error status is a `Reply`, not an exception (the backend spoke, and its words
are passed on). What is raised here is what no backend said: a client that broke the protocol, a proxy that
sheds, a backend that could not be reached or broke off.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = (
    "BadReply",
    "BadRequest",
    "BatchError",
    "BodyTooLarge",
    "BuffersFull",
    "ClientGone",
    "CodingNotSupported",
    "ConfigError",
    "ConnectFailed",
    "ConnectTimeout",
    "DeadlineExceeded",
    "DownstreamError",
    "Draining",
    "ExpectationFailed",
    "Forbidden",
    "HeadersTooLarge",
    "LeaseTimeout",
    "LoadFailed",
    "LoopDetected",
    "MergeRefused",
    "MethodNotAllowed",
    "MethodTooLong",
    "Misdirected",
    "ModelLoading",
    "NoHealthyEndpoint",
    "OverQuota",
    "Overloaded",
    "ProxyError",
    "QueueFull",
    "ReadTimeout",
    "ReaderStalled",
    "RequestTimeout",
    "Reset",
    "RouteNotFound",
    "Shed",
    "SplitMismatch",
    "StreamRefused",
    "StreamReset",
    "TargetTooLong",
    "TooManyConnections",
    "Unauthorized",
    "UpstreamError",
    "VersionNotSupported",
)

Source = Literal["downstream", "upstream", "proxy"]
Retry = Literal["never", "if_unsent", "if_reused"]


class ProxyError(Exception):
    """A call that Pillion answers itself.

    Each leaf class fixes:

    * ``status``: HTTP status to answer.
    * ``grpc_code``: gRPC status number to answer.
    * ``source``: whose fault it is.
    * ``retry``: ``if_unsent`` when nothing reached the backend, ``if_reused`` when only a pooled
      connection's staleness is known to be the cause, else ``never``.
    * ``reason``: the slug in the metric label, the log field and the ``Proxy-Status`` header.
    """

    status: ClassVar[int] = 500
    grpc_code: ClassVar[int] = 13
    source: ClassVar[Source] = "proxy"
    retry: ClassVar[Retry] = "never"
    reason: ClassVar[str] = "internal"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.reason.replace("_", " "))
        self.retry_after_s = retry_after_s


class DownstreamError(ProxyError):
    """The client broke the protocol or a limit."""

    source = "downstream"


class BadRequest(DownstreamError):
    """The request cannot be understood, or means two things."""

    status, grpc_code, reason = 400, 3, "bad_request"


class BodyTooLarge(DownstreamError):
    """The request body is over ``server.limits.body``."""

    status, grpc_code, reason = 413, 8, "body_too_large"


class HeadersTooLarge(DownstreamError):
    """The request head is over ``server.limits.headers`` or ``header_bytes``."""

    status, grpc_code, reason = 431, 8, "headers_too_large"


class RequestTimeout(DownstreamError):
    """The client took too long to send its request."""

    status, grpc_code, reason = 408, 4, "request_timeout"


class Unauthorized(DownstreamError):
    """The request carries no accepted API key."""

    status, grpc_code, reason = 401, 16, "unauthorized"


class Forbidden(DownstreamError):
    """The client has proved who it is, and is not among those who may call."""

    status, grpc_code, reason = 403, 7, "forbidden"


class MethodNotAllowed(DownstreamError):
    """A method that is not for a reverse proxy: CONNECT, TRACE."""

    status, grpc_code, reason = 405, 12, "method_not_allowed"


class TargetTooLong(DownstreamError):
    """The request target is over ``server.limits.target``."""

    status, grpc_code, reason = 414, 8, "target_too_long"


class ExpectationFailed(DownstreamError):
    """An ``Expect`` other than ``100-continue``."""

    status, grpc_code, reason = 417, 3, "expectation_failed"


class Misdirected(DownstreamError):
    """The request names another host than the TLS handshake did."""

    status, grpc_code, reason = 421, 3, "misdirected"


class MethodTooLong(DownstreamError):
    """A method longer than any (RFC 9112 §3)."""

    status, grpc_code, reason = 501, 12, "method_too_long"


class CodingNotSupported(DownstreamError):
    """A transfer coding other than ``chunked`` alone."""

    status, grpc_code, reason = 501, 12, "coding_not_supported"


class VersionNotSupported(DownstreamError):
    """An HTTP version that this listener does not speak."""

    status, grpc_code, reason = 505, 12, "version_not_supported"


class LoopDetected(DownstreamError):
    """The request has passed this proxy before."""

    status, grpc_code, reason = 508, 13, "loop_detected"


class ClientGone(DownstreamError):
    """The client left before its answer: recorded, never sent."""

    status, grpc_code, reason = 499, 1, "client_gone"


class ReaderStalled(ClientGone):
    """The client stopped reading its answer and was given up: recorded, never sent."""

    reason = "reader_stalled"


class RouteNotFound(ProxyError):
    """No route matches the request."""

    status, grpc_code, reason = 404, 12, "route_not_found"


class Shed(ProxyError):
    """Refused to protect the others."""

    status, grpc_code = 503, 14


class QueueFull(Shed):
    """A bounded queue has no room."""

    reason = "queue_full"


class Overloaded(Shed):
    """Too many calls in flight."""

    status, grpc_code, reason = 429, 8, "overloaded"


class OverQuota(Shed):
    """One key's callers ask for more than ``server.auth`` gives a key."""

    status, grpc_code, reason = 429, 8, "over_quota"


class BuffersFull(Shed):
    """Bodies in transit fill ``server.limits.buffered``."""

    reason = "buffers_full"


class TooManyConnections(Shed):
    """The listener holds ``server.limits.connections`` already."""

    reason = "too_many_connections"


class Draining(Shed):
    """The proxy is shutting down and admits nothing new."""

    reason = "draining"


class DeadlineExceeded(Shed):
    """The call's deadline passed before it could be answered."""

    status, grpc_code, reason = 504, 4, "deadline_exceeded"


class ModelLoading(Shed):
    """The model is not resident yet."""

    reason = "model_loading"


class UpstreamError(ProxyError):
    """The backend could not be reached or did not answer properly."""

    status, grpc_code, source = 502, 14, "upstream"


class NoHealthyEndpoint(UpstreamError):
    """Every endpoint of the upstream is down or ejected."""

    status, retry, reason = 503, "if_unsent", "no_healthy_endpoint"


class LeaseTimeout(UpstreamError):
    """No pooled connection became free in time."""

    status, reason = 503, "lease_timeout"


class ConnectFailed(UpstreamError):
    """The backend refused the connection or its name did not resolve."""

    retry, reason = "if_unsent", "connect_failed"


class ConnectTimeout(UpstreamError):
    """The backend did not accept the connection in time."""

    status, grpc_code, retry, reason = 504, 4, "if_unsent", "connect_timeout"


class Reset(UpstreamError):
    """The backend broke the connection before its answer was whole."""

    retry, reason = "if_reused", "reset"


class StreamReset(UpstreamError):
    """The backend reset one HTTP/2 stream; `code` is the error code it gave (RFC 9113 §7)."""

    reason = "stream_reset"

    def __init__(self, message: str = "", code: int = 0x2) -> None:
        super().__init__(message)
        self.code = code


class StreamRefused(UpstreamError):
    """The backend said that it has not looked at the HTTP/2 stream (REFUSED_STREAM, GOAWAY)."""

    status, retry, reason = 503, "if_unsent", "stream_refused"


class ReadTimeout(UpstreamError):
    """The backend was silent for too long."""

    status, grpc_code, reason = 504, 4, "read_timeout"


class BadReply(UpstreamError):
    """The backend's answer is not HTTP."""

    reason = "bad_reply"


class LoadFailed(UpstreamError):
    """The backend could not load the model."""

    status, reason = 503, "load_failed"


class BatchError(ProxyError):
    """A batch could not be formed or cut."""


class MergeRefused(BatchError):
    """The call cannot be merged safely; it is forwarded alone. Never reaches a client."""

    reason = "merge_refused"

    def __init__(self, why: str) -> None:
        super().__init__(f"not merged: {why}")
        self.why = why


class SplitMismatch(BatchError):
    """The backend's answer does not hold one part for each member."""

    status, source, reason = 502, "upstream", "split_mismatch"


class ConfigError(Exception):
    """The configuration is unusable; ``problems`` names every place. Start-up and reload only."""

    def __init__(self, problems: tuple[object, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
