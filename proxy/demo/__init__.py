"""A small real model server with a cost model and faults on request: the embedded default backend."""

__all__ = ()
