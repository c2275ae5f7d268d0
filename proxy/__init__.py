"""Pillion: a sidecar that makes an unmodified model server faster."""

__all__ = ("__version__",)

__version__ = "0.1.0"
