"""A dry run of one request: what every room would do with it, and why."""

__all__ = ()
