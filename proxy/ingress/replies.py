"""Answers that Pillion makes itself, in the error dialect of the protocol that was spoken.

One function from error to reply; whoever failed is named in `Proxy-Status` (RFC 9209), so that an operator
never has to ask whether the backend or the proxy said 503.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from proxy.exchange import Reply

if TYPE_CHECKING:
    from proxy.errors import ProxyError

__all__ = ("error_reply",)

_JSON = (b"Content-Type", b"application/json")
# RFC 9209 §2.3 error types of our reasons; anything else is the proxy's own decision.
_ERROR_TYPES = {
    "bad_request": "http_request_error",
    "body_too_large": "http_request_error",
    "coding_not_supported": "http_request_error",
    "expectation_failed": "http_request_error",
    "forbidden": "http_request_denied",
    "headers_too_large": "http_request_error",
    "loop_detected": "proxy_loop_detected",
    "method_not_allowed": "http_request_error",
    "method_too_long": "http_request_error",
    "misdirected": "http_request_error",
    "request_timeout": "http_request_error",
    "target_too_long": "http_request_error",
    "unauthorized": "http_request_denied",
    "version_not_supported": "http_request_error",
    "route_not_found": "destination_not_found",
    "deadline_exceeded": "http_response_timeout",
    "no_healthy_endpoint": "destination_unavailable",
    "lease_timeout": "connection_limit_reached",
    "connect_failed": "connection_refused",
    "connect_timeout": "connection_timeout",
    "reset": "connection_terminated",
    "read_timeout": "connection_read_timeout",
    "bad_reply": "http_protocol_error",
    "split_mismatch": "http_protocol_error",
    "internal": "proxy_internal_error",
}
# What RFC 9110 requires with a status.
_REQUIRED = {
    401: (b"WWW-Authenticate", b"Bearer"),
    405: (b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
}


def error_reply(error: ProxyError, dialect: str = "kserve") -> Reply:
    """The answer for `error`, worded in `dialect`.

    OpenAI says ``{"error": {message, type, param, code}}``; KServe and the rest say ``{"error": text}``.
    """
    text = str(error)
    if dialect == "openai":
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        detail = {"message": text, "type": kind, "param": None, "code": error.reason}
        body = msgspec.json.encode({"error": detail})
    else:
        body = msgspec.json.encode({"error": text})
    error_type = _ERROR_TYPES.get(error.reason)
    params = f"; error={error_type}" if error_type else ""
    headers = [_JSON, (b"Proxy-Status", f'pillion{params}; details="{error.reason}"'.encode())]
    if error.status in _REQUIRED:
        headers.append(_REQUIRED[error.status])
    if error.retry_after_s is not None:
        headers.append((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after_s))))
    return Reply(error.status, tuple(headers), body, source="proxy")
