"""Notebooks: a progress bar, and tables as HTML in which every text is escaped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


class NotebookProgressBar:
    """A progress bar of tqdm with a text before it: a widget in a notebook, a line of text elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None

    def update(self, done: float | None = None, text: str | None = None) -> None:
        """Show the part that is done, 0 to 1, and a text; what is None stays as it is."""
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=text, total=1.0, bar_format="{l_bar}{bar}| {elapsed}<{remaining}")
        if done is not None:
            self._bar.n = done
        if text is not None:
            self._bar.set_description_str(text, refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def html_table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table."""
    head = "".join(f"<th>{escape(str(header))}</th>" for header in headers)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_facts(title: str, facts: Mapping[str, object]) -> str:
    """Return a title and a list of names and values as HTML."""
    lines = "".join(f"<br>{escape(name)}: {escape(str(value))}" for name, value in facts.items())
    return f"<p><b>{escape(title)}</b>{lines}</p>"
