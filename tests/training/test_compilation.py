"""Compilation of the repeated blocks: the numbers of a run stay, a shape is compiled once, and errors are clear."""

import copy
import sysconfig
from contextlib import closing

import pytest
import torch
from torch import nn

from mcl_ray import register
from mcl_ray.cohort import build_cohort
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import CohortSpec, ComputeSpec, RunSpec
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import SpecError
from mcl_ray.models.cost import shapes_alone
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network
from mcl_ray.training.checkpoint import CheckpointFolder
from mcl_ray.training.compilation import MOST_SHAPES, blocks_of, check_compilation, compile_blocks
from mcl_ray.training.loop import iter_epochs
from mcl_ray.training.pack import Pack, steps_of
from mcl_ray.training.run_state import RunState
from tests.support.commands import run_command
from tests.support.own_parts import own_registries  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""torch hides this warning as it prints one, which an error forestalls."""
LOCAL = Environment(device="cpu", threads=1)
CPU = torch.device("cpu")
BLOCKS = ComputeSpec(compile="blocks")
WITHIN = {"fp32": 1e-3, "bf16": 2e-2}
"""Relative difference of losses after a few steps, in each precision."""


def can_compile():
    """Return whether this machine has what compiled blocks need."""
    try:
        check_compilation(BLOCKS, CPU)
    except SpecError:
        return False
    return True


compiles = pytest.mark.skipif(not can_compile(), reason="needs g++ and the headers of Python")


@pytest.fixture(scope="module", autouse=True)
def compiled_code(tmp_path_factory):
    """A folder for compiled code, which the tests of this module and their commands share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture
def graphs():
    """Return a function that counts the graphs that were compiled since the test began."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    return lambda: counters["stats"]["unique_graphs"] - before


def digits(*overrides):
    return replace(recipes.digits(), parse(RunSpec, ["epochs=1", *overrides]))


def run_of(spec, folder):
    return RunState(spec, dataset_for(spec, LOCAL), LOCAL, folder)


def losses_of_steps(run, count):
    """Return the losses of the first steps of a run, and its cohort's tensors after them."""
    found, record = [], run.method.losses
    run.method.losses = lambda batch: found.append(record(batch)) or found[-1]
    with closing(steps_of([run])) as steps:
        for _ in range(count):
            next(steps)
    return [one.total.item() for one in found], run.cohort.state_dict()


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_losses_and_the_statistics_of_a_run_are_those_without_compilation(precision, tmp_path, graphs):
    spec = digits(f"precision={precision}")
    expected, tensors = losses_of_steps(run_of(spec, tmp_path), 4)
    assert graphs() == 0
    losses, found = losses_of_steps(run_of(replace(spec, {"compute.compile": "blocks"}), tmp_path), 4)
    assert graphs() == 3
    assert losses == pytest.approx(expected, rel=WITHIN[precision])
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if "running" in name:
            torch.testing.assert_close(found[name], tensor, rtol=0.1, atol=0.1)
        if "num_batches" in name:
            assert found[name] == tensor == 4


@pytest.mark.slow
@compiles
def test_a_shape_is_compiled_once_for_all_peers_and_runs_and_never_for_scores(tmp_path, graphs):
    spec = digits("compute.compile=blocks", "networks=resnet20", "cohort.size=2")
    data = dataset_for(spec, LOCAL)
    (epoch,) = iter_epochs(spec, data, LOCAL, tmp_path / "a")
    assert epoch.epoch == 1
    assert graphs() == 5, "one of the first stage, and two of each other: their first block halves the resolution"
    with closing(steps_of([run_of(replace(spec, {"seed": 1}), tmp_path)])) as steps:
        next(steps)
    assert graphs() == 5


@pytest.mark.slow
@compiles
def test_joint_steps_are_computed_without_compilation(tmp_path, graphs):
    def figures(*overrides):
        pack, specs = Pack(), [digits(f"seed={seed}", *overrides) for seed in range(2)]
        data = dataset_for(specs[0], LOCAL)
        runs = [iter_epochs(spec, data, LOCAL, tmp_path / spec.digest, pack=pack) for spec in specs]
        for run in runs:
            assert next(run).epoch == 0
        ends = [next(run) for run in runs]
        return [[row for row in end.rows if row.metric not in ("epoch_time_s", "images_per_s")] for end in ends]

    assert figures("compute.compile=blocks") == figures(), "to the bit"
    assert graphs() == 0


def test_names_of_tensors_stay_and_copies_are_not_compiled():
    spec = CohortSpec(size=2, networks=("resnet8",))
    plain, compiled = (build_cohort(spec, 10) for _ in range(2))
    compile_blocks(compiled, BLOCKS)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert repr(compiled) == repr(plain)
    assert torch._dynamo.config.recompile_limit >= MOST_SHAPES
    images = torch.randn(2, 3, 8, 8)
    calls = []
    for copied in (copy.deepcopy(compiled), compiled.copied()):
        copied(images).logits.sum().backward()
        calls.append(sum(part._compiled_call_impl is not None for part in copied.modules()))
    assert calls == [0, 0]
    assert sum(part._compiled_call_impl is not None for part in compiled.modules()) == 6


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_repeated_blocks(name):
    with shapes_alone():
        network = build_network(name, 10)
    for part in (network.stem, network.branch):
        blocks = [*blocks_of(part)]
        assert blocks
        convolutions = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]
        inside = [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        assert len(inside) == len({*inside}) >= 0.5 * len(convolutions), "none twice"


class Asks(nn.Module):
    """A convolution, and a decision by a value of its maps, which no graph can hold."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps):
        maps = self.conv(maps)
        return maps.relu() if maps.detach().abs().sum().item() >= 0 else maps


@pytest.mark.slow
@compiles
@pytest.mark.usefixtures("own_registries")
def test_a_network_that_no_graph_can_hold_is_trained_in_parts(tmp_path, graphs):
    @register.network("asks")
    def asks(num_classes: int, in_channels: int = 3) -> Network:
        branch = nn.Sequential(Asks(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Network(nn.Conv2d(in_channels, 4, 3), branch, nn.Linear(4, num_classes))

    spec = digits("networks=asks", "sharing=none")
    expected, _ = losses_of_steps(run_of(spec, tmp_path), 3)
    losses, _ = losses_of_steps(run_of(replace(spec, {"compute.compile": "blocks"}), tmp_path), 3)
    assert losses == pytest.approx(expected, rel=WITHIN["fp32"])
    assert graphs() > 1


@pytest.mark.slow
@compiles
def test_a_command_trains_compiled_networks_whose_checkpoint_has_the_usual_names(tmp_path):
    words = ("train", "digits", "epochs=1", "--device", "cpu", "--threads", "1", "--results", str(tmp_path))
    names = []
    for override in ("compute.compile=blocks", "compute.compile=off"):
        done = run_command(tmp_path, *words, override)
        assert (done.code, done.stderr) == (0, "")
    for folder in (tmp_path / "runs").iterdir():
        checkpoint, _ = CheckpointFolder(folder / "checkpoints").latest()
        names.append(list(checkpoint.cohort))
    assert len(names) == 2
    assert names[0] == names[1]


@pytest.mark.slow
@compiles
@pytest.mark.parametrize(
    ("variables", "override", "code", "said"),
    [
        ({"CXX": "no-such-program"}, "blocks", 2, "requires a compiler, CXX or else one on the PATH"),
        ({}, "graphs", 2, "compute.compile=graphs requires a CUDA device, but got device=cpu"),
        ({"CXX": "false"}, "blocks", 1, "torch.compile failed; compute.compile=off trains without it"),
    ],
)
def test_what_cannot_be_compiled_is_one_line(variables, override, code, said, tmp_path, monkeypatch):
    for name, value in (variables | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}).items():
        monkeypatch.setenv(name, value)
    results = tmp_path / "results"
    words = ("digits", "epochs=1", f"compute.compile={override}", "--device", "cpu", "--results", str(results))
    done = run_command(tmp_path, "train", *words)
    assert done.code == code
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert results.exists() == (code == 1), "bad input leaves nothing"


@compiles
def test_a_machine_without_the_headers_of_python_is_refused(monkeypatch, tmp_path):
    check_compilation(BLOCKS, CPU)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    check_compilation(ComputeSpec(), CPU)
    with pytest.raises(SpecError, match=f"requires the headers of Python, but {tmp_path} has no Python.h"):
        check_compilation(BLOCKS, CPU)
