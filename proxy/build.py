"""Whether this Pillion runs compiled: this module is compiled whenever the others are."""

from __future__ import annotations

from typing import Final

__all__ = ("BUILD",)

BUILD: Final = "interpreted" if __file__.endswith(".py") else "compiled"
