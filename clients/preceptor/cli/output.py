"""Lines and tables for people, JSON for programs: one function each, used by every command that lists something."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from preceptor.status_view import fitting


def print_json(value: object) -> None:
    """One indented JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def say(line: str) -> None:
    """One line for people, at once."""
    print(line, flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; tab-separated lines without one, so that `cut` and `awk` work."""
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(row))
        return
    from rich.console import Console  # only a terminal pays for rich

    Console().print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()) -> Table:
    """The same table for whatever else stands on a screen; columns of numbers end at their right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))  # Text: a value with brackets is no markup
    return made


def shown(fitted: fitting.Table, numbers: Collection[str] = ()) -> Group:
    """A table as it fits, and where the columns are that do not."""
    from rich.console import Group
    from rich.text import Text

    return Group(table(fitted.columns, fitted.rows, numbers), *(Text(f"  {note}", style="dim") for note in fitted.notes()))
