"""The words of the code: docstrings begin with a verb or a noun, and names and prose use the field's terms."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mcl_ray", "trainables", "searches", "api", "benchmarks")
OPENINGS = ("What", "Whether", "How", "Of", "Or", "Be", "As", "The same")
"""Openings that are neither a verb nor the noun that is described."""
WORDS = (
    *("aloud", "anybody", "befell", "begun", "door", "doors", "heard", "nobody", "shelf", "somebody", "speaks"),
    *("tell", "tells", "told", "turnstile", "voice", "gone on", "goes on", "go on with", "put on record"),
)
"""Figures of speech, in identifiers, comments, docstrings and messages."""
OLD_NAMES = {
    *("Copy", "EpochReport", "Fed", "Feed", "Facts", "HERE", "Heartbeat", "ImagesRecord", "Launch", "Ledger"),
    *("Listener", "Listing", "MetAlone", "Mirror", "OvertakenError", "Place", "Pushes", "Relay", "Shares", "Shelf"),
    *("SweepSession", "Told", "Turnstile", "UntilUnwritten", "at_each_step", "followers", "from_first"),
    *("group_trial", "in_step", "one_voice", "own_errors_aloud", "teaches_heads", "verdict"),
    "wants_labels",
}
"""Identifiers that were replaced, as they were written."""
SECTION = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in WORDS), re.IGNORECASE)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sources() -> list[Path]:
    """Return every Python file of the packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def docstrings(tree: ast.AST, *, public: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings of a module, its classes, functions and attributes."""
    body: list[ast.stmt] = getattr(tree, "body", [])
    if (text := ast.get_docstring(tree)) is not None:  # type: ignore[arg-type]
        yield body[0].lineno, text
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, DEFINITIONS) and not (public and node.name.startswith("_")):
            yield from docstrings(node, public=public)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(text, str) and not (public and target.startswith("_")):
                yield after.lineno, text


def openings(source: str, *, public: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and first line of each docstring with a bad opening."""
    for line, text in docstrings(ast.parse(source), public=public):
        if re.match(rf"(?:{'|'.join(OPENINGS)})\b", text):
            yield line, text.partition("\n")[0]


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each identifier that a file writes."""
    for node in ast.walk(tree):
        for attribute in ("id", "attr", "name", "arg", "asname"):
            if isinstance(name := getattr(node, attribute, None), str):
                yield getattr(node, "lineno", 0), name


def figures_of_speech(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and word of each old name, and of each figure of speech in a name, a comment or a string."""
    for line, name in identifiers(ast.parse(source)):
        if name.rpartition(".")[2] in OLD_NAMES or SECTION.search(re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", name)):
            yield line, name
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for number, text in enumerate(token.string.splitlines()):
                yield from ((token.start[0] + number, found) for found in SECTION.findall(text))


def listed(check) -> list[str]:
    """Return `file:line: text` of everything that a check finds."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sources()
        for line, text in sorted(set(check(path.read_text(encoding="utf-8"))))
    ]


def test_no_public_docstring_opens_with_a_question_or_a_fragment():
    found = listed(openings)
    assert not found, "\n".join(["", *found])


def test_names_and_prose_have_no_figures_of_speech():
    found = listed(figures_of_speech)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize(
    "template",
    [
        '"""{} it is."""',
        'class Kind:\n    """{} it is."""',
        'class Kind:\n    def size(self):\n        """{} it is."""',
        'async def size():\n    """{} it is."""',
        'SIZE = 1\n"""{} it is."""',
        'class Kind:\n    size: int = 1\n    """{} it is."""',
    ],
)
def test_an_opening_is_found_wherever_it_is(opening, template):
    assert len(list(openings(template.format(opening)))) == 1
    assert not list(openings(template.format("Return what")))


@pytest.mark.parametrize(
    "source",
    [
        "told = 1",
        "def at_each_step(): ...",
        "from a import Turnstile",
        "def f(shelf_path): ...",
        "f(door=1)",
        "# nobody reads it",
        'raise E("a run that was begun")',
        'x = f"{y} goes on"',
        "class RunTold: ...",
    ],
)
def test_a_figure_of_speech_is_found_wherever_it_is(source):
    assert list(figures_of_speech(source))


@pytest.mark.parametrize("source", ["indoors = 1", "untold = shelve", "# at each step", "class Replaced: ..."])
def test_other_words_are_left_alone(source):
    assert not list(figures_of_speech(source))


@pytest.mark.parametrize(("text", "code"), [("Returns a number.", 1), ("Return a number.", 0), ("The number.", 1)])
def test_the_linter_refuses_a_docstring_that_is_not_imperative(text, code):
    source = f'"""Return a module."""\n\n\ndef number() -> int:\n    """{text}"""\n    return 1\n'
    arguments = ["-m", "ruff", "check", "--no-cache", "--output-format", "concise", "--stdin-filename"]
    done = subprocess.run(
        [sys.executable, *arguments, str(ROOT / "mcl_ray" / "new.py"), "-"],
        input=source, capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("D401")) == (code, code)
