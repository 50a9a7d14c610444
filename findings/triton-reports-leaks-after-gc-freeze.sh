#!/bin/sh
# A program that has imported triton ends with a report of leaks on stderr, if it has called gc.freeze before.
# Versions: triton==3.9.0, on Linux.
# A good guess: gc.freeze, which Python recommends before a fork, takes objects from the collector's sight and has no other
#   effect; a program that leaks nothing without it leaks nothing with it.
# Behaviour: triton's types and functions are in cycles, which the collection at the interpreter's end would free. Frozen
#   ones stay, and nanobind, with which triton is bound, reports instances, types and functions as leaked, in some 30
#   lines; the exit code stays 0. torch imports triton where it traces or compiles.
# Our guard: tests/test_interruption.py::test_readers_and_what_a_plugin_starts_end_by_every_signal
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'triton==3.9.0'
cat > "$folder/program.py" <<'PROGRAM'
import gc
import sys

import triton._C.libtriton

if sys.argv[1] == "frozen":
    gc.freeze()
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
as usual: exit code 0
frozen: exit code 0
nanobind: leaked instances!
nanobind: leaked types!
nanobind: leaked functions!
OUTPUT
cd "$folder"
for how in "as usual" frozen; do
    code=0
    env/bin/python program.py "$how" 2> said || code=$?
    echo "$how: exit code $code"
    sed -n 's/^\(nanobind: leaked \)[0-9]* \(.*\)/\1\2/p' said
done > seen
cat seen
diff expected seen || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
