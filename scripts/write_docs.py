"""Writes the parts of docs/ that follow from the code: the settings of docs/configuration.md, the findings of docs/recipes.md.

    python scripts/write_docs.py

Tests compare the pages with `settings_tables()` and `codes_table()`, so nothing can be added without its line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from preceptor.config.knobs import Knob, every_knob
from preceptor.recipes.rules.codes import codes_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by scripts/write_docs.py -->"
END = "<!-- end of settings -->"
RECIPES = PAGE.parent / "recipes.md"
BEGIN_CODES, END_CODES = "<!-- findings: written by scripts/write_docs.py -->", "<!-- end of findings -->"


def settings_tables() -> str:
    """One Markdown table for each section of the file, in the order of the code."""
    sections: dict[str, list[Knob]] = {}
    for knob in every_knob().values():
        sections.setdefault(knob.section, []).append(knob)
    return "\n\n".join(f"{_title(section)}\n\n{_table(knobs)}" for section, knobs in sections.items())


def page_with(tables: str, page: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with what stands between the two marks replaced."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{tables}\n{end}{rest.partition(end)[2]}"


def _title(section: str) -> str:
    return f"### `{section}`" if section else "### Shared by every process"


def _table(knobs: Iterable[Knob]) -> str:
    lines = ["| key | variable | flag | default | meaning |", "|---|---|---|---|---|"]
    for knob in knobs:
        default = "unset" if knob.default is None else f"{knob.default}"
        variables = " or ".join(f"`{name}`" for name in knob.env_names)
        lines.append(f"| `{knob.name}` | {variables} | `{knob.flag}` | {default} | {knob.help} |")
    return "\n".join(lines)


def main() -> None:
    PAGE.write_text(page_with(settings_tables(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    recipes = page_with(codes_table(), RECIPES.read_text(encoding="utf-8"), BEGIN_CODES, END_CODES)
    RECIPES.write_text(recipes, encoding="utf-8")
    print(f"wrote {PAGE.name} and {RECIPES.name}")


if __name__ == "__main__":
    main()
