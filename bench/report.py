"""The two files of a suite: ``bench/results/<name>.json`` with every number, ``.md`` for people."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

from bench.machine import describe
from bench.statistics import spread
from bench.tables import markdown

__all__ = ("RESULTS", "Objective", "Report")

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Objective:
    """An aim, beside what was measured."""

    claim: str
    found: str
    is_met: bool


@dataclass(slots=True)
class Report:
    """What a suite found. `sections` are markdown; `data` is any JSON; `notes` say what to mind."""

    name: str
    question: str
    sections: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    objectives: list[Objective] = field(default_factory=list)

    def objective(
        self,
        claim: str,
        values: Sequence[float],
        *,
        least: float = -math.inf,
        most: float = math.inf,
        unit: str = "",
    ) -> None:
        """Say what was aimed at, and whether the median of the `values` of valid rounds is within it."""
        if not values:
            self.objectives.append(Objective(claim, "no valid round", is_met=False))
            return
        found = spread(values)
        text = f"{found.median:,.4g} ({found.least:,.4g} … {found.most:,.4g}) {unit}".rstrip()
        self.objectives.append(Objective(claim, text, is_met=least <= found.median <= most))

    def section(self, title: str, text: str) -> None:
        """Add a section, and show it."""
        self.sections.append(f"## {title}\n\n{text}\n")
        print(f"\n## {title}\n\n{text}\n", flush=True)

    def write(self, folder: Path = RESULTS) -> Path:
        """Write both files; the markdown's path."""
        if self.objectives:
            rows = [(aim.claim, aim.found, "yes" if aim.is_met else "**no**") for aim in self.objectives]
            self.section("Objectives", markdown(("", "found", "met"), rows))
        folder.mkdir(parents=True, exist_ok=True)
        about = {
            "suite": self.name,
            "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
            "machine": describe(),
        }
        aims = [asdict(aim) for aim in self.objectives]
        document = {**about, "notes": self.notes, "objectives": aims, **self.data}
        (folder / f"{self.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        path = folder / f"{self.name}.md"
        path.write_text(self._markdown(about), encoding="utf-8")
        return path

    def _markdown(self, about: Mapping[str, object]) -> str:
        machine = about["machine"]
        assert isinstance(machine, dict)
        packages = ", ".join(f"{name} {version}" for name, version in machine.pop("packages").items())
        lines = [f"# {self.name}", "", self.question, "", f"`{about['command']}`, {about['at']}", ""]
        lines += [f"- {name}: {value}" for name, value in machine.items()]
        lines += [f"- packages: {packages}", ""]
        lines += [f"- **Mind**: {note}" for note in self.notes]
        return "\n".join([*lines, "", *self.sections]).rstrip() + "\n"
