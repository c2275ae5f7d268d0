"""Protobuf messages as bytes: cut into their fields, spliced and framed, without generated code."""

__all__ = ()
