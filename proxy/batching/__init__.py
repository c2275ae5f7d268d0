"""Requests coalesced into batched upstream calls, and the answers cut apart again."""

__all__ = ()
