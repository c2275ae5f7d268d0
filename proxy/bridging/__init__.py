"""REST for upstreams that speak gRPC only: calls translated on the way in, answers on the way out."""

__all__ = ()
