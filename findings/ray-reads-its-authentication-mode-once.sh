#!/bin/sh
# Ray reads RAY_AUTH_MODE when it is imported; the processes that it starts read it then.
# Versions: ray==2.60.0.
# A good guess: a variable that is set before ray.init, or after the import, has its effect on both sides or on none.
# Behaviour: set between import and init, only the processes that ray.init starts use tokens: init cannot reach them, and
#   fails.
# Our guard: tests/trainables/test_ray_environment.py::test_an_authentication_mode_that_ray_has_not_read_is_not_set
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/program.py" <<'PROGRAM'
import os
import ray

os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = "0123456789abcdef0123456789abcdef"
try:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    print("started")
except Exception as error:
    print("ray.init failed:", type(error).__name__)
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
ray.init failed: RuntimeError
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
