"""The command: `python -m benchmarks.campaign SUBJECT`; prints one JSON line for each database or kind of sweep.

Processes that a subject forks run this module too: it imports nothing before it is asked to.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import threading


def main() -> int:
    """Run the campaign of a subject; return 1 if anything was lost, doubled, regressed or stuck."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.campaign", description="Kill, and count what is lost.")
    subjects = parser.add_subparsers(dest="subject", required=True)
    service = subjects.add_parser("service", help="kill API, drivers, workers, nodes and the head under load")
    service.add_argument("--database", choices=("sqlite", "postgresql"), help="if not given, one after the other")
    for subject in (service,):
        subject.add_argument("--kills", type=int, default=1000)
        subject.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    asked = parser.parse_args()

    import structlog

    from benchmarks.campaign import service as campaign
    from benchmarks.record import print_line

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    is_clean, stop = True, threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # judge what has been killed until then
    for database in [asked.database] if asked.database else ("sqlite", "postgresql"):
        found = campaign.run_on(database, asked.kills, asked.seed, stop)
        print_line("campaign service", found.figures, n=asked.kills)
        is_clean &= found.findings.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
