#!/bin/sh
# safetensors writes the memory of a NumPy array as it lies, and the shape beside it: a transposed array comes back scrambled.
# Versions: safetensors==0.8.0, numpy==2.4.0.
# A good guess: an array that is not C-contiguous is written by its values, or refused as safetensors.torch refuses tensors.
# Behaviour: safetensors.numpy.save_file takes it without a word; what is loaded has the shape, and other values.
# Our guard: tests/transfer/test_export.py::test_the_best_peer_is_exported_by_default, whose weights are channels-last in memory
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.0
cat > "$folder/program.py" <<'PROGRAM'
import numpy as np
from safetensors.numpy import load_file, save_file

matrix = np.arange(6.0).reshape(2, 3)
arrays = {"as it is": matrix, "of Fortran's order": np.asfortranarray(matrix), "every second": np.arange(6.0)[::2]}
save_file(arrays, "arrays.safetensors")
loaded = load_file("arrays.safetensors")
for name, array in arrays.items():
    print(f"{name}: {array.tolist()} -> {loaded[name].tolist()}")
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
as it is: [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] -> [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
of Fortran's order: [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] -> [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]
every second: [0.0, 2.0, 4.0] -> [0.0, 1.0, 2.0]
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
