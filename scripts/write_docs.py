"""Writes the parts of docs/ that follow from the code: the table of settings in docs/configuration.md.

    python scripts/write_docs.py

A test compares the page with `settings_tables()`, so a knob cannot be added without its line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from preceptor.config.knobs import Knob, every_knob

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- settings: written by scripts/write_docs.py -->"
END = "<!-- end of settings -->"


def settings_tables() -> str:
    """One Markdown table for each section of the file, in the order of the code."""
    sections: dict[str, list[Knob]] = {}
    for knob in every_knob().values():
        sections.setdefault(knob.section, []).append(knob)
    return "\n\n".join(f"{_title(section)}\n\n{_table(knobs)}" for section, knobs in sections.items())


def page_with(tables: str, page: str) -> str:
    """The page with what stands between the two marks replaced."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{tables}\n{END}{rest.partition(END)[2]}"


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
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
