"""Load from a process of its own: closed loop, or open loop at a constant or a Poisson rate."""

__all__ = ()
