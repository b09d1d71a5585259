"""The table of both engines: figures that missed their bar, figures that are not there, when and under what load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import side_by_side
from benchmarks.side_by_side import BEGIN, END, LINES, figures, table


def row(value: float, *, ok: bool, **detail: Any) -> dict[str, Any]:
    return {"value": value, "ok": ok, "bar": 4, "better": "higher", "detail": {"date": "2026-11-29", **detail}}


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {start}"))


def test_both_engines_stand_beside_stock() -> None:
    speeds = {"stock": 1116, "hf topk": 3000, "vllm topk": 6000}
    found = {
        "P2a.topk": row(2.688, ok=False, tokens_per_s=speeds, load=[0.5, 2]),
        "P2a.topk.vllm": row(5.376, ok=True, tokens_per_s=speeds),
    }
    cells = line_of(table(found), "P2a.topk").split(" | ")[1:]
    assert cells == [
        "**2.69** (3,000 tokens/s; 2026-11-29, load 0.5 to 2)",
        "5.38 (6,000 tokens/s; 2026-11-29)",
        "1,116 tokens/s",
        ">= 4 |",
    ]


def test_a_figure_that_nobody_took_is_a_dash() -> None:
    assert line_of(table({}), "P5").split(" | ")[1:] == ["-", "-", "", " |"]


def test_every_line_asks_for_figures_that_some_benchmark_writes() -> None:
    found = figures()
    assert {line.vllm.rpartition(".")[2] for line in LINES} == {"vllm"}
    assert {"P5", "P5.vllm", "N1.float64.random", "N1.float64.vllm"} <= found.keys()


def test_the_page_keeps_what_stands_around_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(side_by_side, "PAGE", page)
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    side_by_side.main()
    once = page.read_text(encoding="utf-8")
    assert once == f"before\n\n{BEGIN}\n\n{table(figures())}\n\n{END}\n\nafter\n"
    side_by_side.main()
    assert page.read_text(encoding="utf-8") == once
    page.write_text("no place", encoding="utf-8")
    with pytest.raises(SystemExit):
        side_by_side.main()
