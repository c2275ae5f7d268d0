"""The operator's port: probes, metrics, status."""

__all__ = ()
