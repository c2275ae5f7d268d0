"""How each protocol's requests are merged and its answers split; pure bytes in, bytes out."""

__all__ = ()
