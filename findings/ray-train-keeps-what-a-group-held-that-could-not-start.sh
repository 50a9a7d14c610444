#!/bin/sh
# Ray Train keeps the processor cores of a worker group whose process group of torch cannot start, until the driver ends.
# Versions: ray[train]==2.60.0, torch==2.11.0; gloo, on the CPU.
# A good guess: `fit` raises, and gives everything back that it had reserved, as after an error of the training function,
#   so that the same program trains with other settings, or its next trial, afterwards.
# Behaviour: the placement group stays CREATED; the next `fit` of the same size waits for cores that nobody uses. After
#   an error of the training function it is REMOVED.
# Our guard: tests/trainables/test_process_group.py::test_a_group_that_cannot_start_is_tried_again_and_gives_its_resources_back
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'ray[train]==2.60.0' 'torch==2.11.0'
cat > "$folder/program.py" <<'PROGRAM'
import sys

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util import placement_group_table


# gloo listens on the interface that this variable names; there is none of this name.
kind, storage = sys.argv[1:]
variables = {"GLOO_SOCKET_IFNAME": "missing0"} if kind == "start" else {}
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})


def failing(kind=kind):
    if kind == "training":
        raise ValueError("an error of the training function")


try:
    TorchTrainer(
        failing,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(name="group", storage_path=storage),
    ).fit()
    print(f"{kind}: no error")
except ray.train.TrainingFailedError as error:
    (state,) = {group["state"] for group in placement_group_table().values()}
    print(f"{kind}: {type(error).__name__}, and the placement group is {state}")
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
training: WorkerGroupError, and the placement group is REMOVED
start: ControllerError, and the placement group is CREATED
OUTPUT
for kind in training start; do
    (cd "$folder" && env/bin/python program.py "$kind" "$folder/ray-$kind" 2>> "$folder/log") >> "$folder/seen"
done
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { cat "$folder/log" >&2; echo "the behaviour has changed: see the lines above" >&2; exit 1; }
