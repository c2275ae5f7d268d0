"""What faces the client: HTTP in, errors out."""

__all__ = ()
