"""What faces the backend: connections, pools, health."""

__all__ = ()
