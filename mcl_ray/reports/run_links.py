"""The links of a sweep's report to the folders of its runs, which exist beside the stored page only."""

from __future__ import annotations

import re

NOTE = "The link leads to the folder of the run, where its spec, its figures and its checkpoints are."
"""Note above the runs of a report."""
SENT_NOTE = "The spec, the figures and the checkpoints of a run are in its folder, among the artifacts of the job."
"""Note in its place where the page is sent without the folders."""
_LINK = re.compile(rb'<a href="\.\./runs/[^"]*">(.*?)</a>')


def folder_link(run_id: str) -> str:
    """Return the path of a run's folder, relative to the page of its sweep's report."""
    return f"../runs/{run_id}/"


def without_folder_links(page: bytes) -> bytes:
    """Return the page of a report, as it is stored, with the names of runs in place of the links to their folders."""
    return _LINK.sub(rb"\1", page).replace(NOTE.encode(), SENT_NOTE.encode())
