"""The self-contained HTML page of a report: it loads nothing, so it works from a disk, by mail and offline.

Its figures are made in `interactive.py`. Every user string is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

# plotly compiles its drawing functions, hence 'unsafe-eval'; nothing may be loaded.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; form-action 'none'"
)
# plotly's own button would upload the figure to a server of plotly's.
CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": ""}
STYLE = """
:root { color-scheme: light dark; --ink: #16202e; --soft: #566274; --line: #d9dfe8; --back: #fff; --card: #f4f6f9;
  --accent: #0b5cad; --chosen: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecf2; --soft: #a3aebd; --line: #333d4b; --back: #11161d; --card: #1a212b; --accent: #7db8f5;
    --chosen: #3a3118; }
  .figure { filter: invert(.93) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 1200px; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
a { color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; max-height: 36rem; overflow-y: auto; border: 1px solid var(--line); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, var(--width)), 1fr)); gap: 1rem; }
.figure { min-width: 0; } .drawn-wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; min-width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { position: sticky; top: 0; background: var(--card); z-index: 1; } td { white-space: nowrap; }
th.long { min-width: 10rem; } th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort] button::after { content: " \\2191"; } th[aria-sort=descending] button::after { content: " \\2193"; }
tr:target td { background: var(--chosen); }
td.text { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
input[type=search] { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
  padding: .3rem .6rem; margin-bottom: .5rem; max-width: 100%; }
#chosen { margin-top: 1rem; }
pre { background: var(--card); padding: 1rem; overflow-x: auto; font-size: .85rem; }
.note { color: var(--soft); max-width: 75ch; }
@media (max-width: 600px) {
  body { padding: .75rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  td.text { min-width: 10rem; }
}
"""
# Sorts by a column: numbers and durations by their size, then texts; cells without a value stay last.
SORTING = """
const seconds = {d: 86400, h: 3600, min: 60, s: 1};
function numberOf(text) {
  if (/^\\d{4}-\\d\\d-\\d\\d/.test(text)) return NaN;  // a date is in order as a text
  if (!/^[\\d.]+ (d|h|min|s)( \\d+ (h|min|s))?$/.test(text)) return parseFloat(text);
  const parts = text.match(/[\\d.]+ [a-z]+/g).map((part) => part.split(" "));
  return parts.reduce((sum, [count, unit]) => sum + count * seconds[unit], 0);
}
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => {
    const text = row.cells[column].textContent.trim(), number = numberOf(text.replaceAll(",", ""));
    return text === "" || text === "\u2013" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (one, other) => typeof one === typeof other
    ? (one < other ? -1 : one > other ? 1 : 0) : typeof one === "number" ? -1 : 1;
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.ariaSort = sign === 1 ? "ascending" : "descending";
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
    rows.sort(([one], [other]) => one === null || other === null
      ? (one === null) - (other === null) : sign * compare(one, other));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
dispatchEvent(new Event("resize"));  // plotly measured figures while the page was not yet laid out
"""
WORDS = ("reason", "tags", "configuration", "result")
"""Columns whose texts are wrapped."""


LONG_HEADER = 24
"""Characters from which a header makes its column wide enough for two lines."""


@dataclass(frozen=True)
class Link:
    """A text that leads elsewhere: to `#` and the id of a row of the page, or to a file beside it."""

    text: str
    target: str


Cell = str | Sequence[Link]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page: a heading, and the parts below it, each of which may be missing."""

    title: str
    note: str = ""
    facts: Mapping[str, str] | None = None
    above: str = ""
    """HTML above the table, whose texts the caller has escaped."""
    headers: Sequence[str] = ()
    cells: Sequence[Sequence[Cell]] = ()
    row_ids: Sequence[str] = ()
    """Id of each row, to which links of the page lead; may be left out."""
    figures: Sequence[go.Figure] = ()
    """Figures side by side, as far as there is room."""
    figure_width: int = 300
    """Smallest width of a figure, in pixels."""
    is_scrolled: bool = False
    """True if a figure keeps that width where the window is narrower, and is moved sideways."""
    code: str = ""
    raw: str = ""
    """HTML and scripts at the end, whose texts the caller has escaped."""


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the page as HTML.

    Args:
        title: Title of the page.
        facts: Name → text, listed below the title.
        sections: The sections, in their order.
    """
    body = "\n".join(_section(section, index) for index, section in enumerate(sections))
    plotly = f"<script>{get_plotlyjs()}</script>\n" if any(section.figures for section in sections) else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n{plotly}</head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n{_facts(facts)}\n{body}\n<script>{SORTING}</script>\n</body></html>\n"
    )


def _section(section: Section, index: int) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    if section.note:
        parts.append(f'<p class="note">{html.escape(section.note)}</p>')
    if section.facts:
        parts.append(_facts(section.facts))
    if section.headers:
        parts += [section.above, _table(section)]
    if section.figures:
        parts.append(_figures(section, index))
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    return "\n".join([*parts, section.raw, "</section>"])


def _facts(facts: Mapping[str, str]) -> str:
    pairs = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{pairs}</dl>"


def _table(section: Section) -> str:
    long = [" class=long" if len(name) > LONG_HEADER else "" for name in section.headers]
    names = map(html.escape, section.headers)
    head = "".join(f"<th{kind}><button>{name}</button></th>" for kind, name in zip(long, names, strict=True))
    ids = section.row_ids or [""] * len(section.cells)
    rows = "".join(_row(row, section.headers, row_id) for row, row_id in zip(section.cells, ids, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(cells: Sequence[Cell], headers: Sequence[str], row_id: str) -> str:
    pairs = zip(cells, headers, strict=True)
    texts = ((" class=text" if name in WORDS else "", _cell(cell)) for cell, name in pairs)
    named = f' id="{html.escape(row_id)}"' if row_id else ""
    return f"<tr{named}>" + "".join(f"<td{kind}>{text}</td>" for kind, text in texts) + "</tr>"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return html.escape(cell)
    return " ".join(f'<a href="{html.escape(link.target)}">{html.escape(link.text)}</a>' for link in cell)


def _figures(section: Section, index: int) -> str:
    width = f"{section.figure_width}px"
    inner = f' style="min-width: {width}"' if section.is_scrolled else ""
    drawn = "".join(
        f'<div class="figure{" drawn-wide" if section.is_scrolled else ""}"><div{inner}>'
        f"{_figure(figure, f'figure-{index}-{number}')}</div></div>"
        for number, figure in enumerate(section.figures)
    )
    return f'<div class="figures" style="--width: {width}">{drawn}</div>'


def _figure(figure: go.Figure, name: str) -> str:
    """Return the figure as HTML; plotly escapes every angle bracket in the JSON of its script."""
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=CONFIG)
    return drawn
