"""One module for each suite; each is a coroutine that returns its `Report`."""

__all__ = ()
