"""A gRPC backend that computes nothing and a client that only asks, each a process of its own."""

__all__: tuple[str, ...] = ()
