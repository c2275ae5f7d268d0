"""Which route a request takes, and whether it is admitted."""

__all__ = ()
