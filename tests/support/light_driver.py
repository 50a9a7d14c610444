"""A driver that trains nothing: it claims its attempt, works for a while, writes its manifest, and logs each effect.

Usage: light_driver.py --root ROOT --job ID --attempt N, as the service calls `mcl_ray.job`.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.messages import JobSpec
from mcl_ray.jobs.states import EXIT_FENCED

parser = argparse.ArgumentParser()
for name in ("root", "job", "attempt"):
    parser.add_argument(f"--{name}", required=True)
given = parser.parse_args()
root, job, attempt = Path(given.root), given.job, int(given.attempt)
attempts = Attempts(root)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
signal.signal(signal.SIGINT, signal.SIG_DFL)


def log(effect: str) -> None:
    """Append a line, whole or not at all."""
    descriptor = os.open(root / "effects.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, f"{effect} {job} {attempt}\n".encode())
    os.close(descriptor)


if not attempts.take(job, attempt, "driver"):
    log("fenced")
    sys.exit(EXIT_FENCED)
spec = JobSpec.model_validate(attempts.read(job, attempt, "spec"))
log("start")
label = spec.request.label
if label.startswith("sleep"):
    time.sleep(float(label.split()[1]))
elif label == "hold":
    while not (root / "released").exists():
        time.sleep(0.05)
elif (label == "kill me once" and attempt == 1) or label == "kill me":
    os.kill(os.getpid(), signal.SIGKILL)
elif label == "fail":
    attempts.write(job, attempt, "outcome", {"outcome": "failed", "reason": "SpecError: as asked for"})
    sys.exit(2)
elif label == "interrupted once" and attempt == 1:
    attempts.write(job, attempt, "outcome", {"outcome": "interrupted", "reason": "stopped"})
    os.kill(os.getpid(), signal.SIGINT)
attempts.write(job, attempt, "manifest", {"files": {}})
log("done")
