"""What an operator says about logs (YAML: ``observe.access_log``)."""

from __future__ import annotations

from typing import Literal

from proxy.config.fields import Policy, Share

__all__ = ("AccessLogPolicy",)


class AccessLogPolicy(Policy):
    """One line on standard output for each request that ended."""

    format: Literal["json", "text", "off"] = "json"
    """`json`: one object for each line; `text`: key=value pairs; `off`: nothing is written, at no cost."""
    ok: Share = 1.0
    """Share of the requests with outcome `ok` that are logged."""
    errors: Share = 1.0
    """Share of all other requests that are logged."""
