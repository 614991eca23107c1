"""What was measured, against which bar: on the terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `bar` is the most it may be; None is for information."""

    name: str
    value: float
    unit: str = ""
    bar: float | None = None

    @property
    def met(self) -> bool:
        """Whether it keeps to its bar."""
        return self.bar is None or self.value <= self.bar


@dataclass(slots=True)
class Report:
    """Figures of all parts, and what had to be left out."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether every bar was kept."""
        return all(figure.met for figures in self.figures.values() for figure in figures)

    def show(self, console: Console) -> None:
        """Print one table with all parts."""
        table = Table("figure", "value", "bar", "", title="ilaas bench", title_justify="left")
        for column in table.columns[1:3]:
            column.justify = "right"
        for part, figures in self.figures.items():
            table.add_section()
            table.add_row(f"[bold]{part}[/bold]")
            for figure in figures:
                bar = "" if figure.bar is None else f"≤ {figure.bar:,g}"
                verdict = "" if figure.bar is None else "[green]met[/green]" if figure.met else "[red]MISSED[/red]"
                table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}".strip(), bar, verdict)
        console.print(table)
        for line in self.skipped:
            console.print(f"skipped: {line}", highlight=False)

    def write(self, path: Path) -> None:
        """Write the same as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {
            part: [dataclasses.asdict(figure) | {"met": figure.met} for figure in figures]
            for part, figures in self.figures.items()
        }
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        document = {"met": self.met, "machine": machine, "parts": parts, "skipped": self.skipped}
        path.write_text(json.dumps(document, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
