"""Judge of the service: compares answers to clients and effects of drivers with what the database says at the end.

It reads the logs of the submitting client and of the drivers, the drivers' manifests, and the tables by SQL of its own:
no code of the service takes part.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.campaign.findings import Findings

TERMINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Evidence:
    """Facts of a campaign."""

    answers: list[dict[str, Any]]
    """Lines of the client's log, in order: `accepted` and `cancelled` requests, and states that were `seen`."""
    effects: list[tuple[str, str, int]]
    """Lines of the drivers' log, in order: effect, job, attempt."""
    done: set[tuple[str, int]]
    """Job and attempt of every manifest."""
    rows: Mapping[str, Mapping[str, Any]]
    """Job → its row at the end: key, state, attempt."""
    events: list[tuple[str, str, int]]
    """Job, state, attempt; in order."""


def collect(answers: Path, results: Path, database_url: str) -> Evidence:
    """Return the facts that the client's log, the results root and the database hold."""
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT id, key, state, attempt, reason FROM job")).mappings()
        found = {str(row["id"]): dict(row) for row in rows}
        events = connection.execute(sa.text("SELECT job, state, attempt FROM event ORDER BY id")).all()
    engine.dispose()
    effects = results / "effects.log"
    lines = [line.split() for line in effects.read_text().splitlines()] if effects.exists() else []
    manifests = (results / "jobs").glob("*/a*.manifest")
    return Evidence(
        answers=[json.loads(line) for line in answers.read_text().splitlines()],
        effects=[(effect, job, int(attempt)) for effect, job, attempt in lines],
        done={(file.parent.name, int(file.stem[1:])) for file in manifests},
        rows=found,
        events=[(str(job), str(state), int(attempt)) for job, state, attempt in events],
    )


def judge(evidence: Evidence) -> Findings:
    """Return what was lost, doubled, regressed or stuck."""
    findings = Findings()
    _judge_accepted(evidence, findings)
    _judge_effects(evidence, findings)
    seen = [(line["job"], line["state"], line["attempt"]) for line in evidence.answers if line["what"] == "seen"]
    for source, states in (("events", evidence.events), ("answers", seen)):
        _judge_order(source, states, findings)
    return findings


def _judge_accepted(evidence: Evidence, findings: Findings) -> None:
    """Check that each accepted request is one job, which ended as it had to."""
    accepted = [line for line in evidence.answers if line["what"] == "accepted"]
    cancelled = {line["job"] for line in evidence.answers if line["what"] == "cancelled"}
    jobs_of_key: dict[str, set[str]] = collections.defaultdict(set)
    for line in accepted:
        jobs_of_key[line["key"]].add(line["job"])
    for job, stored in evidence.rows.items():
        jobs_of_key[stored["key"]].add(job)
    findings.doubled += [f"{key} is {len(found)} jobs: {found}" for key, found in jobs_of_key.items() if len(found) > 1]
    for line in {line["job"]: line for line in accepted}.values():
        job, row = line["job"], evidence.rows.get(line["job"])
        if row is None:
            findings.lost.append(f"{job} was accepted, and is not in the database")
            continue
        state, wanted = row["state"], {line["ends"], *(["cancelled"] if job in cancelled else [])}
        if state not in TERMINAL:
            findings.stuck.append(f"{job} is {state}: {row['reason']}")
        elif state not in wanted:
            findings.lost.append(f"{job} is {state}, but had to be {' or '.join(sorted(wanted))}: {row['reason']}")
        elif state == "succeeded" and (job, row["attempt"]) not in evidence.done:
            findings.lost.append(f"{job} is succeeded, but no driver did attempt {row['attempt']}")
        elif state == "cancelled" and (job, row["attempt"]) in evidence.done:
            findings.lost.append(f"{job} is cancelled, but a driver has done attempt {row['attempt']}")


def _judge_effects(evidence: Evidence, findings: Findings) -> None:
    """Check that an attempt has one driver, a job one attempt at a time, and one that is done."""
    counts = collections.Counter(evidence.effects)
    findings.doubled += [
        f"{job} attempt {attempt}: {times} times {effect}"
        for (effect, job, attempt), times in counts.items()
        if times > 1 and effect != "fenced"
    ]
    latest: dict[str, int] = {}
    for effect, job, attempt in evidence.effects:
        if effect == "fenced":
            continue
        if attempt < latest.get(job, 0):
            findings.doubled.append(f"{job}: attempt {attempt} did {effect} after attempt {latest[job]} had started")
        latest[job] = max(attempt, latest.get(job, 0))
    dones = collections.Counter(job for job, _ in evidence.done)
    findings.doubled += [f"{job} was done {times} times" for job, times in dones.items() if times > 1]


def _judge_order(source: str, states: list[tuple[str, str, int]], findings: Findings) -> None:
    """Check that no attempt follows a later one, and nothing a terminal state."""
    last: dict[str, tuple[str, int]] = {}
    for job, state, attempt in states:
        before, earlier = last.get(job, ("", 0))
        if attempt < earlier or (before in TERMINAL and (state, attempt) != (before, earlier)):
            findings.regressed.append(f"{job}: {source} say {before} {earlier}, then {state} {attempt}")
        last[job] = (state, attempt)
