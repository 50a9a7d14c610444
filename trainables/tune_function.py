"""A single-worker trial: one configuration trained inside the Tune trial itself, by the same loop as everywhere.

Tune stops trials early between epochs. Checkpoints and records are ours, so that a restarted trial resumes from its
runs' folders. A trial that fails reports it and returns: its process runs the next trial.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any

from ray import tune

from trainables.trial_job import TRIAL, TrialJob
from trainables.trial_training import iter_reports

_log = logging.getLogger(__name__)


def train_trial(config: dict[str, Any], job: TrialJob) -> None:
    """Train one configuration and report every epoch to Tune; or, as its last report, the error that ended it."""
    try:
        # An early stop is a SystemExit raised by the report: it closes the runs, which record that they were stopped.
        with closing(iter_reports(config, job.on_this_node())) as reports:
            for report in reports:
                tune.report(report)
    except Exception as error:
        _log.exception("trial %s failed", config[TRIAL])  # with the traceback, in Ray's log of this process
        tune.report(job.ended_by(config, error))
