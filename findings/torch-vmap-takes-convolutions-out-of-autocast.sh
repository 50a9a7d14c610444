#!/bin/sh
# torch.vmap takes convolutions out of autocast on a CPU: they are computed in float32, while matrix products stay in bf16.
# Versions: torch==2.15.0.
# A good guess: autocast decides for each operation as without vmap, so that a function under vmap has the types and the
#   speed that it has in a loop.
# Behaviour: in `torch.autocast("cpu", dtype=torch.bfloat16)`, conv2d alone gives bf16 and conv2d under vmap float32,
#   without a warning; mm and linear give bf16 in both.
# Our guard: tests/training/test_pack.py::test_convolutions_of_a_stack_are_in_bf16_with_channels_last
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy
cat > "$folder/program.py" <<'CODE'
import torch
from torch.nn import functional as F

maps, weights, matrices = torch.randn(2, 1, 3, 8, 8), torch.randn(2, 4, 3, 3, 3), torch.randn(2, 3, 3)
with torch.autocast("cpu", dtype=torch.bfloat16):
    for function, arguments in ((F.conv2d, (maps, weights)), (torch.mm, (matrices, matrices)), (F.linear, (matrices, matrices))):
        alone = function(*(argument[0] for argument in arguments))
        print(function.__name__, alone.dtype, torch.vmap(function)(*arguments).dtype)
CODE
cat > "$folder/expected" <<'OUTPUT'
conv2d torch.bfloat16 torch.float32
mm torch.bfloat16 torch.bfloat16
linear torch.bfloat16 torch.bfloat16
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
