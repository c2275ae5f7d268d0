"""The YAML: its model, its loader with file:line:column, the presets of the known protocols."""

__all__ = ()
