"""The TLS context towards ``https://`` endpoints."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.pooling.policy import TlsPolicy

__all__ = ("client_context",)


def client_context(policy: TlsPolicy, *, alpn: str = "http/1.1") -> ssl.SSLContext:
    """A context that verifies the backend as `policy` says and offers `alpn` only.

    Reads the files that the policy names: OSError or ssl.SSLError when one is unusable.
    """
    context = ssl.create_default_context(cafile=policy.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    if not policy.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if policy.cert:
        context.load_cert_chain(policy.cert, policy.key or None)
    return context
