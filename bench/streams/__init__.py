"""A source of streams and a reader of them, each a process of its own."""

__all__: tuple[str, ...] = ()
