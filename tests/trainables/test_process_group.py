"""The process group of workers on Ray: where gloo listens, and what is left of a group that could not start."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.running_command import ROOT

# The first group's workers have an interface that does not exist; the second group has the same size.
DRIVER = """
import json, os, sys
from pathlib import Path

import ray
from ray.experimental import internal_kv
from ray.util import placement_group, placement_group_table

from mcl_ray.errors import TrainingError
from trainables import torch_trainer
from trainables.process_group import NAMESPACE, _key

address, folder = sys.argv[1], Path(sys.argv[2])
broken = folder / "broken"

def hook():
    if broken.exists():
        os.environ["GLOO_SOCKET_IFNAME"] = "missing0"

def own():
    job = ray.get_runtime_context().get_job_id()  # the id of a placement group ends with it
    return {id: placement["state"] for id, placement in placement_group_table().items() if id.endswith(job)}

def work():
    kept = internal_kv._internal_kv_get(_key("second"), namespace=NAMESPACE)
    assert [id for id, state in own().items() if state == "CREATED"] == [kept.hex()]
    (folder / "interface").write_text(os.environ["GLOO_SOCKET_IFNAME"])

ray.init(address, runtime_env={"worker_process_setup_hook": hook}, log_to_driver=False)
torch_trainer.RESTARTS = 1
group = torch_trainer.Group(fewest=1, most=1, bundle={"CPU": 1.0, "GPU": 0.0})
broken.touch()
try:
    group.train(work, folder, "first")
except TrainingError as error:
    failed = str(error)
broken.unlink()
left = own()
assert set(left.values()) == {"REMOVED"}, left  # another group would wait for them without end
# As if a node was lost, with the controller of a group of this name and with Ray's own actor that cleans up.
lost = placement_group([{"CPU": 2.0}])
assert lost.wait(600)
internal_kv._internal_kv_put(_key("second"), lost.id.binary(), namespace=NAMESPACE)
group.train(work, folder, "second")
assert set(own().values()) == {"REMOVED"}
import psutil  # Ray ships it
addresses = [one.address for one in psutil.net_if_addrs()[(folder / "interface").read_text()]]
assert ray.util.get_node_ip_address() in addresses, addresses
print(json.dumps({"failed": failed, "tries": len(left)}))
"""


@pytest.mark.slow
def test_a_group_that_cannot_start_is_tried_again_and_gives_its_resources_back(shared_ray, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, shared_ray.address, tmp_path],
        env=os.environ | shared_ray.variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failed"].startswith("Ray Train must be able to run a group of workers, but: its process group ")
    assert "missing0" in found["failed"]
    assert found["tries"] == 2
