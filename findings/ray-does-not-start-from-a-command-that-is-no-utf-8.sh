#!/bin/sh
# ray.init fails if an argument of the program is not UTF-8, as the name of a file may be, whatever the program does with it.
# Versions: ray==2.60.0.
# A good guess: arguments of the program are its own affair; Python itself reads any bytes and gives them back.
# Behaviour: Ray records the command of a driver, from the list of processes, and converts it to UTF-8 without a way for
#   other bytes: UnicodeEncodeError, after it has started its processes.
# Our guard: tests/trainables/cluster/test_connect.py::test_a_command_that_is_no_utf_8_is_refused_before_ray_is_started
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cat > "$folder/program.py" <<'PROGRAM'
import os, sys
import ray

try:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    print(os.fsencode(sys.argv[1]), "started")
except Exception as error:
    print(os.fsencode(sys.argv[1]), "ray.init failed:", type(error).__name__)
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
b'caf\xc3\xa9' started
b'caf\xe9' ray.init failed: UnicodeEncodeError
OUTPUT
(cd "$folder" && env/bin/python program.py "$(printf 'caf\303\251')" && env/bin/python program.py "$(printf 'caf\351')") \
    > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
