"""``python -m proxy.config``: write again the files that are made from the model.

Run from the repository's root.
"""

from __future__ import annotations

from pathlib import Path

from proxy.config.reference import with_tables
from proxy.config.schema import schema_text

__all__ = ("generated",)

_REFERENCE = Path("docs/configuration.md")


def generated(root: Path) -> dict[Path, str]:
    """What each generated file below `root` should hold."""
    reference = (root / _REFERENCE).read_text(encoding="utf-8")
    return {
        root / "config/schema/v1.json": schema_text(),
        root / _REFERENCE: with_tables(reference),
    }


if __name__ == "__main__":
    for path, text in generated(Path()).items():
        path.write_text(text, encoding="utf-8")
