"""A part of a terminal's output that has several layouts, the widest first: the first that fits is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table


@dataclass(frozen=True)
class Fitting:
    """A table in several layouts; where none fits, the last one is cut off by the terminal."""

    layouts: tuple[Table, ...]
    """From the widest to the narrowest."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = replace(options, max_width=10_000)
        fitting = (
            table for table in self.layouts if console.measure(table, options=unlimited).minimum <= options.max_width
        )
        yield next(fitting, self.layouts[-1])
