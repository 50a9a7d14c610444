"""The command: `python -m benchmarks.campaign SUBJECT`; prints one JSON line for each kind of what it is about.

Processes that a subject forks run this module too: it imports nothing before it is asked to.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import threading
from collections.abc import Iterator

from benchmarks.campaign.findings import Campaign


def main() -> int:
    """Run the campaign of a subject; return 1 if anything was lost, doubled, regressed or stuck."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description="Kill, and count what is lost.")
    subjects = parser.add_subparsers(dest="subject", required=True)
    service = subjects.add_parser("service", help="kill API, drivers, workers, nodes and the head under load")
    service.add_argument("--database", choices=("sqlite", "postgresql"), help="if not given, one after the other")
    sweeps = subjects.add_parser("sweeps", help="kill drivers, trials, raylets and the GCS of sweeps, and damage files")
    sweeps.add_argument("--kind", choices=("plain", "asha", "repeats", "costs", "workers"), help="if not given, each")
    files = subjects.add_parser("files", help="damage files of every kind that is read")
    files.add_argument("--kind", help="such as run.parquet; if not given, each")
    files.add_argument("--mutations", dest="number", type=int, default=100, help="of each kind of file")
    runs = subjects.add_parser("runs", help="kill `train`, fill its disk, and damage its checkpoints")
    for subject in (service, sweeps, runs):
        subject.add_argument("--kills", dest="number", type=int, default=1000)
    for subject in (service, sweeps, runs, files):
        subject.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    asked = parser.parse_args()

    from benchmarks.record import print_line

    is_clean, stop = True, threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # judge what has been killed until then
    for found in {"service": _service, "sweeps": _sweeps, "runs": _runs, "files": _files}[asked.subject](asked, stop):
        made = found.figures.get("kills", found.figures.get("mutations"))
        print_line(f"campaign {asked.subject}", found.figures, n=int(str(made)))
        is_clean &= found.findings.is_clean
    return 0 if is_clean else 1


def _service(asked: argparse.Namespace, stop: threading.Event) -> Iterator[Campaign]:
    import structlog

    from benchmarks.campaign import service

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for database in [asked.database] if asked.database else ("sqlite", "postgresql"):
        yield service.run_on(database, asked.number, asked.seed, stop)


def _sweeps(asked: argparse.Namespace, stop: threading.Event) -> Iterator[Campaign]:
    from benchmarks.campaign import sweeps

    kinds = [asked.kind] if asked.kind else list(sweeps.SWEEPS)
    for number, kind in enumerate(kinds):
        share = asked.number // len(kinds) + (number < asked.number % len(kinds))
        yield sweeps.run_on(kind, share, asked.seed + number, stop)


def _runs(asked: argparse.Namespace, stop: threading.Event) -> Iterator[Campaign]:
    from benchmarks.campaign import runs

    yield runs.run_on(asked.number, asked.seed, stop)


def _files(asked: argparse.Namespace, stop: threading.Event) -> Iterator[Campaign]:
    from benchmarks.campaign import files
    from benchmarks.campaign.files_kinds import KINDS

    for kind in [asked.kind] if asked.kind else list(KINDS):
        yield files.run_on(kind, asked.number, asked.seed, stop)


if __name__ == "__main__":
    raise SystemExit(main())
