"""HTML for notebooks: tables, and a progress bar that is updated in place. Every text is escaped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any


def notebook_display() -> Callable[..., Any] | None:
    """Return IPython's `display` if this process is the kernel of a notebook, else None."""
    ipython = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display  # type: ignore[import-not-found,unused-ignore]  # not a dependency

    result: Callable[..., Any] = display
    return result


class HtmlProgressBar:
    """A progress bar with a text below it."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None
        self._done, self._text = 0.0, ""

    def update(self, done: float | None = None, text: str | None = None) -> None:
        """Show the part that is done, 0 to 1, and a text; what is None stays as it is."""
        self._done = self._done if done is None else done
        self._text = self._text if text is None else text
        if self._handle is None:
            self._handle = self._display(self, display_id=True)
        else:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        return f'<progress value="{self._done:.4f}" max="1" style="width: 60%"></progress><br>{escape(self._text)}'

    def __repr__(self) -> str:
        return f"{self._done:.0%} {self._text}"


def html_table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table."""
    head = "".join(f"<th>{escape(str(header))}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_facts(title: str, facts: Mapping[str, object]) -> str:
    """Return a title and a list of names and values as HTML."""
    lines = "".join(f"<br>{escape(name)}: {escape(str(value))}" for name, value in facts.items())
    return f"<p><b>{escape(title)}</b>{lines}</p>"
