"""A table in the width that there is: columns leave in a given order instead of all being cut to stubs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = 3  # between two columns, and one more before the first


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows. `same` has what was taken out because every row says it, `left_out` what there is no room for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    same: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """What it takes on a screen."""
        widest = (max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True))
        return sum(widest) + GAP * len(self.columns) + 1

    def notes(self) -> Iterator[str]:
        """Where the missing columns are."""
        if self.same:
            yield "every row: " + ", ".join(f"{column} {cell}" for column, cell in self.same)
        if self.left_out:
            yield "no room for: " + ", ".join(self.left_out)

    def without(self, column: str) -> Table:
        """One column less: said once if every row says the same, else left out."""
        place = self.columns.index(column)
        cells = {row[place] for row in self.rows}
        columns = self.columns[:place] + self.columns[place + 1 :]
        rows = tuple(row[:place] + row[place + 1 :] for row in self.rows)
        if len(cells) == 1:
            return Table(columns, rows, (*self.same, (column, cells.pop())), self.left_out)
        return Table(columns, rows, self.same, (*self.left_out, column))

    def says_once(self, column: str) -> bool:
        """True where every row says the same."""
        place = self.columns.index(column)
        return len({row[place] for row in self.rows}) == 1


def fitted(table: Table, width: int, names: Sequence[str], order: Sequence[str]) -> Table:
    """`names` leave only where all rows agree, and first; then the columns of `order`, one by one."""
    for column in (*(name for name in names if table.says_once(name)), *order):
        if table.width <= width:
            break
        table = table.without(column)
    return table
