"""``python -m proxy.config`` (from the repository root) writes the files that are made from the model."""

from __future__ import annotations

from pathlib import Path

from proxy.config.reference import with_tables
from proxy.config.schema import schema_text

__all__ = ("generate", "generated")


def generated(root: Path) -> dict[Path, str]:
    """What each generated file below `root` should hold; the reference's prose is kept."""
    schema, reference = root / "config/schema/v1.json", root / "docs/configuration.md"
    return {schema: schema_text(), reference: with_tables(reference.read_text(encoding="utf-8"))}


def generate(root: Path) -> None:
    """Bring the generated files below `root` up to date."""
    for path, text in generated(root).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    generate(Path())
