#!/bin/sh
# torch's fused optimizers on a CPU update wrong elements once a parameter and its state differ in their memory format.
# Versions: torch==2.15.0.
# A good guess: as every operation of torch, a fused optimizer respects strides; `fused=True` and `fused=False` agree
#   within rounding, also for a module that becomes channels_last after its first step.
# Behaviour: they agree until `module.to(memory_format=torch.channels_last)` after a step. The state keeps its contiguous
#   format, the fused update pairs its elements with those of the parameter by their position in the memory, and no
#   error or warning is given: the weights differ by a large part of their size. It holds for SGD with momentum and AdamW.
# Our guard: a tensor that is stacked or released keeps its memory format (`mcl_ray/models/stacked.py`):
#   tests/training/test_pack.py::test_a_run_that_leaves_goes_on_alone_or_in_another_pack
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 numpy
cat > "$folder/compare.py" <<'CODE'
import torch


def weights(optimizer, *, fused, converted):
    torch.manual_seed(0)
    layer, images = torch.nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 8, 8)
    update = optimizer(layer.parameters(), fused=fused)
    for step in range(3):
        if step == 1 and converted:
            layer.to(memory_format=torch.channels_last)
        update.zero_grad()
        layer(images).square().mean().backward()
        update.step()
    return layer.weight.detach().contiguous()


def sgd(parameters, fused):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=fused)


def adamw(parameters, fused):
    return torch.optim.AdamW(parameters, lr=0.1, fused=fused)


for optimizer in (sgd, adamw):
    for converted in (False, True):
        plain, fused = (weights(optimizer, fused=fused, converted=converted) for fused in (False, True))
        agree = torch.allclose(plain, fused, rtol=1e-4, atol=1e-5)
        print(optimizer.__name__, "converted" if converted else "as built", "agree" if agree else "differ")
CODE
"$folder/env/bin/python" "$folder/compare.py" > "$folder/seen"
cat > "$folder/expected" <<'OUTPUT'
sgd as built agree
sgd converted differ
adamw as built agree
adamw converted differ
OUTPUT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
