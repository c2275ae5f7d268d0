"""Metrics, access log and status: what the proxy says about itself."""

__all__ = ()
