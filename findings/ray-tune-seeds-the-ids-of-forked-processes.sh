#!/bin/sh
# Ray's ids of two processes that were forked from one are equal if it had imported ray.tune, and differ if ray alone.
# Versions: ray[tune]==2.60.0.
# A good guess: an import draws no id, so that forked processes, which draw ids of the system's randomness, differ.
# Behaviour: importing ray.tune declares actors, each of which draws an id; the generator is then seeded, and forked
#   processes continue from its state.
# Our guard: tests/support/test_forked.py::test_two_of_them_draw_different_numbers
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'ray[tune]==2.60.0'
cat > "$folder/program.py" <<'PROGRAM'
import importlib
import os
import sys

import ray

importlib.import_module(sys.argv[1])


def drawn_by_a_forked_process():
    end, start = os.pipe()
    if os.fork() == 0:
        os.write(start, ray.ObjectID.from_random().hex().encode())
        os._exit(0)
    os.wait()
    return os.read(end, 1000)


first, second = drawn_by_a_forked_process(), drawn_by_a_forked_process()
print(f"{sys.argv[1]}: the ids are {'equal' if first == second else 'different'}")
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
ray: the ids are different
ray.tune: the ids are equal
OUTPUT
(cd "$folder" && env/bin/python program.py ray && env/bin/python program.py ray.tune) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
