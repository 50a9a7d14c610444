#!/bin/sh
# A worker of Ray that receives the handle of an actor imports the actor's class, with all that its module imports.
# Versions: ray==2.60.0.
# A good guess: a handle is an address with the names of the methods, so that a process that calls an actor needs none of
#   what the actor itself imports.
# Behaviour: reading the handle loads the class, though the task makes no call: a process that only passes on what an
#   actor with torch answers takes the memory and the seconds of torch itself. The driver shows nothing of it.
# Our guard: tests/trainables/test_pack_actor.py::test_the_process_of_a_trial_in_a_pack_imports_no_torch
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'ray==2.60.0'
cat > "$folder/actor.py" <<'MODULE'
import large_library  # noqa: F401


class Actor:
    def answer(self):
        return 42
MODULE
echo 'CONTENT = 1' > "$folder/large_library.py"
cat > "$folder/tasks.py" <<'MODULE'
import sys


def without_handle():
    return "large_library" in sys.modules


def with_handle(handle):
    return "large_library" in sys.modules
MODULE
cat > "$folder/program.py" <<'PROGRAM'
import ray

from actor import Actor
from tasks import with_handle, without_handle

ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="critical", num_cpus=2)
actor = ray.remote(num_cpus=0)(Actor).remote()
print("the actor answers:", ray.get(actor.answer.remote()))
print("large_library in a worker without the handle:", ray.get(ray.remote(without_handle).remote()))
print("large_library in a worker with the handle:", ray.get(ray.remote(with_handle).remote(actor)))
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
the actor answers: 42
large_library in a worker without the handle: False
large_library in a worker with the handle: True
OUTPUT
(cd "$folder" && RAY_AUTH_MODE=disabled PYTHONPATH="$folder" env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
