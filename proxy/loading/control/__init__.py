"""How each kind of model server is asked to load, unload and list its models."""

__all__ = ()
