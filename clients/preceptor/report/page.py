"""The frame of a page: style for light and dark, sections, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink:#1c2430; --soft:#5b6675; --line:#d9dee6; --card:#ffffff; --page:#f4f6f9;
  --run:#0b6bcb; --control:#b4552d; --second:#7a5bb5; --reference:#4a7a4a; --third:#8a6d00; --fourth:#0f7f86;
  --fifth:#a0427f; --good:#1f7a3d; --bad:#b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --soft:#9aa6b5; --line:#333d4a; --card:#1b212a; --page:#12161c;
  --run:#6db3f8; --control:#eb9a72; --second:#b9a0ee; --reference:#8fc48f; --third:#e0c060; --fourth:#6fd0d6;
  --fifth:#f09ccf; --good:#77d08f; --bad:#ff8a80; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; letter-spacing:-.01em; }
h2 { font-size: 18px; margin: 0 0 6px; }
p { margin: 4px 0 12px; } .soft { color: var(--soft); font-size: 14px; }
section { background: var(--card); border:1px solid var(--line); border-radius: 12px; padding: 18px 20px; margin: 18px 0; }
.pair { display:grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 18px; }
.pair section { margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; } .scroll { overflow-x: auto; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
td.number { white-space: nowrap; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { font: 13px/1.5 ui-monospace, monospace; margin: 0; }
code, .mono { font: 13.5px/1.6 ui-monospace, monospace; }
.ok { color: var(--good); font-weight: 600; } .no { color: var(--bad); font-weight: 600; }
svg { width: 100%; max-width: 800px; height: auto; display:block; }
.grid { stroke: var(--line); } .tick, .axis { fill: var(--soft); font-size: 11.5px; } .name { font-size: 12px; font-weight: 600; }
.line { fill: none; stroke-width: 2.2; } .line.run, .dot.run { stroke: var(--run); } .name.run, .dot.run { fill: var(--run); }
.line.control, .dot.control { stroke: var(--control); } .name.control, .dot.control { fill: var(--control); }
.line.second, .dot.second { stroke: var(--second); } .name.second, .dot.second { fill: var(--second); }
.line.reference, .dot.reference { stroke: var(--reference); } .name.reference, .dot.reference { fill: var(--reference); }
.line.third, .dot.third { stroke: var(--third); } .name.third, .dot.third { fill: var(--third); }
.line.fourth, .dot.fourth { stroke: var(--fourth); } .name.fourth, .dot.fourth { fill: var(--fourth); }
.line.fifth, .dot.fifth { stroke: var(--fifth); } .name.fifth, .dot.fifth { fill: var(--fifth); }
@media (max-width: 560px) { .tick { font-size: 19px; } .name { font-size: 17px; } .axis { display: none; }
  main { padding: 20px 12px 40px; } section { padding: 14px; } td, th { padding-right: 8px; } }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0 0; font-size: 14px; }
.key::before { content: ""; display: inline-block; width: 18px; vertical-align: middle; margin-right: 6px;
  border-top: 3px solid var(--run); }
.key.dashed::before { border-top-style: dashed; }
.key.control::before { border-color: var(--control); } .key.second::before { border-color: var(--second); }
.key.reference::before { border-color: var(--reference); } .key.third::before { border-color: var(--third); }
.key.fourth::before { border-color: var(--fourth); } .key.fifth::before { border-color: var(--fifth); }
.tokens { font: 16px/2.3 ui-monospace, monospace; overflow-wrap: anywhere; }
.tokens span { padding: 3px 5px; margin: 0 1px; border-radius: 4px; border: 1px solid transparent; white-space: pre; }
.scale { display:inline-block; width: 180px; height: 12px; border-radius: 6px; vertical-align: middle; margin: 0 8px;
  background: linear-gradient(90deg, transparent, #e0852b66, #d32f2fcc); border: 1px solid var(--line); }
"""


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """The whole document; `lead` and sections are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1><p class='soft'>{lead}</p>{''.join(sections)}</main></body></html>\n"
    )


def section(title: str, body: str, note: str = "") -> str:
    """A card; the note says what the figures mean."""
    told = f"<p class='soft'>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{body}</section>"


def side_by_side(*sections: str) -> str:
    return f'<div class="pair">{"".join(sections)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells are HTML already; columns named in `numbers` are set as numbers."""

    def cell(tag: str, column: int, content: str) -> str:
        return f'<{tag} class="number">{content}</{tag}>' if column in numbers else f"<{tag}>{content}</{tag}>"

    names = "".join(cell("th", i, escape(name)) for i, name in enumerate(header))
    head = f"<thead><tr>{names}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{''.join(cell('td', i, one) for i, one in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def mark(ok: bool) -> str:
    return '<span class="ok">reached</span>' if ok else '<span class="no">not reached</span>'
