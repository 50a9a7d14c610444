"""The environment variables that Ray reads when it is imported or starts something; a user's own values stay.

The package imports this module before any other, so that nothing below it can import ray earlier.
"""

from __future__ import annotations

import os
import sys

RAY_VARIABLES = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # or a driver under `uv run` rebuilds the environment for each worker
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Without it the dashboard does not list the runs of Ray Train.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # A worker group hands over one report per health check, and an epoch may be shorter than Ray's two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Sweeps resume from their own records: Tune's snapshot is never read.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A trial that failed has no score to report.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Tune gives a trial that it stops two seconds to close its runs, which may have to be sent to a store. If they do
    # not suffice, it drops the next trial of the process without a message.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "120",
}
"""Variable → value where the environment has none."""

READ_ONCE = {"RAY_AUTH_MODE"}
"""Variables that ray reads when it is imported and never again, but that the processes it starts read, too."""

for _name, _value in RAY_VARIABLES.items():
    # A user may have imported ray before. If this process and the ones it starts then disagreed on authentication, no
    # Ray would start; without the variable, Ray decides for all of them.
    if not (_name in READ_ONCE and "ray" in sys.modules):
        os.environ.setdefault(_name, _value)
