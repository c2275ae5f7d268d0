"""Models loaded ahead of need: history, prediction, residency in a memory budget, proof that it paid."""

__all__ = ()
