"""``python -m proxy.config``: write again the files that are made from the model (schema and reference)."""

from __future__ import annotations

import json
from pathlib import Path

from proxy.config.schema import json_schema

__all__ = ("generated",)


def generated() -> dict[str, str]:
    """The text of each generated file by its path in the repository."""
    return {"config/schema/v1.json": json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"}


def _main() -> None:
    for path, text in generated().items():
        Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main()
