#!/bin/sh
# A local Ray ends with the thread that called ray.init, though the process and its connection go on.
# Versions: ray==2.60.0, on Linux.
# A good guess: a Ray that ray.init starts lives as long as the process, or until ray.shutdown, whichever thread made the
#   call; so an executor, or a web framework's thread, may start it.
# Behaviour: Ray's processes ask the kernel for a signal at the death of their parent, which to Linux is the thread that
#   started them: its GCS and its raylet are gone once that thread has returned, while ray.is_initialized() stays true.
# Our guard: tests/trainables/cluster/test_local_start.py::test_a_ray_outlives_the_thread_that_has_connected_first
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'ray==2.60.0'
cat > "$folder/program.py" <<'PROGRAM'
import os
import threading
import time
from pathlib import Path

import ray

NEEDED = {"gcs_server", "raylet"}


def running():
    """Names of those children of this process that Ray needs and that run."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        state, parent = fields.split()[:2]
        if int(parent) == os.getpid() and state != "Z":
            found.add(name)
    return sorted(found & NEEDED)


def start():
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="critical", num_cpus=1)
    is_started.set()
    may_return.wait()


is_started, may_return = threading.Event(), threading.Event()
thread = threading.Thread(target=start)
thread.start()
is_started.wait()
time.sleep(3)
print("while the thread waits:", running())
may_return.set()
thread.join()
for _ in range(600):
    if not running():
        break
    time.sleep(0.1)
print("once the thread has returned:", running(), "and is_initialized:", ray.is_initialized(), flush=True)
os._exit(0)
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
while the thread waits: ['gcs_server', 'raylet']
once the thread has returned: [] and is_initialized: True
OUTPUT
(cd "$folder" && RAY_AUTH_MODE=disabled env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
