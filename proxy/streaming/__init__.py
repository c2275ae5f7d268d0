"""Streaming: bodies that leave as they come, in bounded memory, and are never mistaken for whole ones."""

__all__: tuple[str, ...] = ()
