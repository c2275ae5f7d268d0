"""What an operator says about what is recorded (YAML: ``observe``)."""

from __future__ import annotations

from typing import Literal

from proxy.config.fields import Policy, Share

__all__ = ("AccessLogPolicy",)


class AccessLogPolicy(Policy):
    """One line for each finished call."""

    format: Literal["json", "text", "off"] = "json"
    """`json` and `text` write one line per call; `off` writes none."""
    ok: Share = 1.0
    """Share of the successful calls that are written."""
    errors: Share = 1.0
    """Share of the failed calls that are written."""
