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
body { font: 15px/1.5 system-ui, sans-serif; color: #111; background: #fff; margin: 0 auto; max-width: 1200px;
  padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; max-height: 36rem; overflow-y: auto; border: 1px solid #ddd; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; min-width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #e5e5e5; vertical-align: top; }
th { position: sticky; top: 0; background: #f4f4f4; } td { white-space: nowrap; }
td:last-child { white-space: normal; min-width: 16rem; overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .85rem; } .note { color: #444; max-width: 75ch; }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page: a heading, and the parts below it, each of which may be missing."""

    title: str
    note: str = ""
    facts: Mapping[str, str] | None = None
    headers: Sequence[str] = ()
    cells: Sequence[Sequence[str]] = ()
    figure: go.Figure | None = None
    code: str = ""


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the page as HTML.

    Args:
        title: Title of the page.
        facts: Name → text, listed below the title.
        sections: The sections, in their order.
    """
    body = "\n".join(_section(section, index) for index, section in enumerate(sections))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n<script>{get_plotlyjs()}</script>\n</head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n{_facts(facts)}\n{body}\n</body></html>\n"
    )


def _section(section: Section, index: int) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    if section.note:
        parts.append(f'<p class="note">{html.escape(section.note)}</p>')
    if section.facts:
        parts.append(_facts(section.facts))
    if section.headers:
        parts.append(_table(section.headers, section.cells))
    if section.figure is not None:
        parts.append(_figure(section.figure, index))
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    return "\n".join([*parts, "</section>"])


def _facts(facts: Mapping[str, str]) -> str:
    pairs = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{pairs}</dl>"


def _table(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in headers)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _figure(figure: go.Figure, index: int) -> str:
    """Return the figure as HTML; plotly escapes every angle bracket in the JSON of its script."""
    drawn: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{index}",
        config=CONFIG,
    )
    return drawn
