#!/bin/sh
# pytest-xdist's `--dist=loadgroup` keeps no group in one worker with pytest 9.2, and says nothing.
# Versions: pytest==9.2.0, pytest-xdist==3.8.0, which requires pytest>=7.0.0 without an upper bound.
# A good guess: tests marked with one `xdist_group` run in one worker, or there is an error or a warning.
# Behaviour: xdist appends the group to the node's private `_nodeid`, of which pytest 9.2 makes nothing: the tests of a group
#   run in every worker, as with `--dist=load`. With pytest 9.1.1 they run in one.
# Our guard: tests/test_groups.py::test_the_tests_of_a_group_run_in_one_process; pyproject.toml requires pytest<9.2.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
cat > "$folder/test_group.py" <<'PROGRAM'
import os
import pathlib
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_one_of_a_group(number):
    pathlib.Path(os.environ["SEEN_WORKERS"], os.environ["PYTEST_XDIST_WORKER"]).touch()
    time.sleep(0.2)
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
pytest 9.1.1: the group ran in one worker
pytest 9.2.0: the group ran in several workers
OUTPUT
for version in 9.1.1 9.2.0; do
    "$folder/env/bin/pip" install --quiet --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
    mkdir "$folder/$version"
    (cd "$folder" && SEEN_WORKERS="$folder/$version" env/bin/python -m pytest -q -p no:cacheprovider -n 3 --dist=loadgroup \
        test_group.py > log 2>&1) || { cat "$folder/log" >&2; exit 1; }
    [ "$(ls "$folder/$version" | wc -l)" -eq 1 ] && where="one worker" || where="several workers"
    echo "pytest $version: the group ran in $where"
done > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
