"""What a benchmark leaves behind: a table on the terminal and `benchmarks/results/NAME.json`. It measures, it never judges."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure against its bar."""

    id: str
    what: str
    value: float
    bar: float
    better: Literal["higher", "lower"]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar

    def as_json(self) -> dict[str, Any]:
        plain = {"id": self.id, "what": self.what, "value": self.value, "bar": self.bar, "better": self.better, "ok": self.ok}
        return {**plain, "detail": {**self.detail, **where_and_when()}}


def where_and_when() -> dict[str, str]:
    """The machine and the day, which every figure carries."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "date": datetime.now(UTC).date().isoformat()}


def commit() -> str:
    """Of the checkout; ends in `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def write_results(name: str, rows: Sequence[Result], notes: Iterable[str] = ()) -> Path:
    """Prints the table and the notes, and writes `benchmarks/results/NAME.json`."""
    show(name, rows, notes)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n", encoding="utf-8")
    return path


def add_results(name: str, rows: Sequence[Result], notes: Iterable[str] = ()) -> Path:
    """As `write_results`, but figures of other ids that the file holds stay, each with its own date."""
    show(name, rows, notes)
    path = RESULTS / f"{name}.json"
    kept: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    fresh = {row.id: row.as_json() for row in rows}
    merged = [fresh.pop(one["id"], one) for one in kept] + list(fresh.values())
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    return path


def show(name: str, rows: Sequence[Result], notes: Iterable[str]) -> None:
    from rich.console import Console  # not needed to make results, and not on every machine that makes some
    from rich.table import Table

    table = Table(title=name)
    for column in ("id", "what", "value", "bar", ""):
        table.add_column(column, justify="right" if column in {"value", "bar"} else "left")
    for row in rows:
        sign = "≥" if row.better == "higher" else "≤"
        table.add_row(row.id, row.what, f"{row.value:.4g}", f"{sign} {row.bar:g}", "ok" if row.ok else "missed")
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"• {note}", markup=False, highlight=False, soft_wrap=True)
