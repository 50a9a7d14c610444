"""Hooks of MkDocs: adds the READMEs and the generated reference to the pages, and fits links to them."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs_site")]

import reference  # noqa: E402  # beside this file, which is no module of a package

DEPLOYED = ("images", "kubernetes", "local-cluster", "machines", "monitoring")
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    **{f"deploy/{name}/README.md": f"deploy/{name}.md" for name in DEPLOYED},
}
"""File of the checkout → page of the site, for those that are not below docs/."""
SOURCES = {page: file for file, page in PAGES.items()}
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not below docs/."""
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text()))
    for name, function in reference.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=function()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Have links and pictures name files of the site; a file of the checkout that is no page keeps its text alone."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def fitted(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, mark, anchor = target.partition("#")
        if not path or "://" in path or here.startswith("reference/"):
            return match[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        found = PAGES.get(named, named.removeprefix("docs/"))
        if files.get_file_from_path(found) is None:
            return text if (ROOT / named).exists() else match[0]
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(here) or '.')}{mark}{anchor})"

    return LINK.sub(fitted, markdown)
