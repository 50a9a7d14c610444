"""What rich prints of the parts of an overview, as text."""

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType


def text_of(parts: Iterable[RenderableType]) -> str:
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    for part in parts:
        console.print(part)
    return console.export_text()
