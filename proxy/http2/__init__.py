"""HTTP/2 without I/O: frames, header blocks, flow control, and both sides of a connection."""

__all__ = ()
