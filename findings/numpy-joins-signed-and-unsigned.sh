#!/bin/sh
# NumPy joins int64 and uint64 as float64, in which neighbouring integers are one.
# Versions: numpy==2.4.6.
# A good guess: concatenating two arrays of integers gives integers, or an error if none can hold them all.
# Behaviour: the result is float64: 2**53 and 2**53 + 1 are one value, so that two labels become one, without a warning.
# Our guard: tests/data/test_parquet.py::test_labels_are_neither_merged_nor_renamed
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cat > "$folder/program.py" <<'PROGRAM'
import numpy as np

joined = np.concatenate([np.array([2**53, 2**53 + 1]), np.array([5], np.uint64)])
print(joined.dtype, "with", len(np.unique(joined)), "distinct values of 3")
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
float64 with 2 distinct values of 3
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
