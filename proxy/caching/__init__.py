"""Answers that were given before: what may be kept, for whom, for how long, and who waits for whom."""

__all__ = ()
