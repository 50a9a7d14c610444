"""Runs that share their steps train what each of them trains alone."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mcl_ray import register
from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.augment import Augment
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import NonFiniteLossError, SpecError
from mcl_ray.methods.method import Method
from mcl_ray.methods.supervised import Supervised
from mcl_ray.models.network import Network
from mcl_ray.training.cohort_stack import CohortStack
from mcl_ray.training.loop import iter_epochs
from mcl_ray.training.pack import Pack, steps_of
from mcl_ray.training.run_state import RunState
from tests.support.own_parts import own_registries  # noqa: F401
from tests.support.pictures import write_folder
from tests.support.small_runs import METHODS, SMALL

NETWORKS = ("resnet8", "wrn_16_2", "shufflenetv2_05x", "hcgnet_a1", "resnet18")
OF_TIME = ("epoch_time_s", "images_per_s")
RELATIVE = 1e-2
"""Difference of losses: where the sum of two maps is near zero, ReLU passes the gradient in one arithmetic only."""
IN_DOUBLE = 1e-12
"""The same in double precision, where such sums are not met."""


def cohort(network: str, seed: int, **fields: object) -> Cohort:
    torch.manual_seed(seed)
    spec = replace(recipes.cifar(), {"cohort.networks": network} | {f"cohort.{k}": v for k, v in fields.items()})
    return build_cohort(spec.cohort, num_classes=5, in_channels=2).double()


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_gradients_and_statistics_are_those_of_each_cohort(network):
    cohorts = [cohort(network, 1), cohort(network, 2, size=3), cohort(network, 3, sharing="stem")]
    alone = copy.deepcopy(cohorts)
    images = torch.randn(3, 3, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stack = CohortStack(cohorts)
    outputs = stack(list(images))
    torch.stack([_loss(output) for output in outputs]).sum().backward()
    for stacked, _ in stack.parameters:
        if stacked.whole.grad is not None:
            for tensor, gradient in zip(stacked.tensors, stacked.whole.grad, strict=True):
                tensor.grad = gradient
    stack.release()
    for own, reference, seen, output in zip(cohorts, alone, images, outputs, strict=True):
        expected = reference(seen)
        _loss(expected).backward()
        torch.testing.assert_close(output.logits, expected.logits, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(output.embeddings, expected.embeddings, rtol=1e-5, atol=1e-6)
        gradients, wanted = _gradients(own), _gradients(reference)
        assert gradients.keys() == wanted.keys()
        for name, gradient in gradients.items():  # those of embeddings, which are of single precision, too
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
        tensors = reference.state_dict()
        for name, tensor in own.state_dict().items():
            torch.testing.assert_close(tensor, tensors[name], rtol=1e-9, atol=1e-9, msg=name)
            assert tensor.untyped_storage().size() == tensor.numel() * tensor.element_size(), "a tensor of its own"


class Convolutions(TorchDispatchMode):
    """The type of the maps of each convolution, and whether their channels are last in the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[torch.dtype, bool]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.seen.add((args[0].dtype, args[0].is_contiguous(memory_format=torch.channels_last)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_of_a_stack_are_in_bf16_with_channels_last(channels):
    torch.manual_seed(0)
    made = (build_cohort(recipes.digits().cohort, num_classes=5, in_channels=channels) for _ in range(2))
    stack = CohortStack([one.to(memory_format=torch.channels_last) for one in made])
    images = torch.randn(2, 3, channels, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16), Convolutions() as convolutions:
        stack([one.contiguous(memory_format=torch.channels_last) for one in images])
    assert convolutions.seen == {(torch.bfloat16, True)}


def _loss(output) -> torch.Tensor:
    weights = torch.linspace(-1, 1, output.logits.numel(), dtype=torch.float64).view_as(output.logits)
    similar = torch.linspace(-1, 1, output.embeddings.numel()).view_as(output.embeddings)
    return (output.logits * weights).sum() + (output.embeddings * similar).sum()


def _gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.grad for name, one in module.named_parameters() if one.grad is not None}


class Runs:
    """Runs on small pictures, one after the other or in a pack."""

    def __init__(self, folder: Path, specs: dict[str, RunSpec]) -> None:
        self._folder, self._specs = write_folder(folder / "pictures"), specs
        self._checkpoints = {name: folder / name for name in specs}
        self._environment = Environment(data=self._folder, readers=0, threads=1, steps_per_log=2)

    def start(self, name: str, pack: Pack | None = None):
        """Return the epochs of a run, from its newest checkpoint in a pack, and anew alone."""
        spec = self._specs[name]
        folder = self._checkpoints[name] if pack else self._folder.parent / f"{name}-alone"
        return iter_epochs(spec, dataset_for(spec, self._environment), self._environment, folder, (), pack)

    def alone(self, name: str) -> list[dict[tuple[str, ...], float]]:
        return [_figures(epoch) for epoch in self.start(name)]

    def together(self, *names: str) -> dict[str, list]:
        pack = Pack()
        runs = {name: self.start(name, pack) for name in names}
        assert [next(run).epoch for run in runs.values()] == [0] * len(names)
        found: dict[str, list] = {name: [] for name in names}
        for _ in range(self._specs[names[0]].schedule.epochs):
            for name, run in runs.items():
                if not any(isinstance(figures, Exception) for figures in found[name]):
                    try:
                        found[name].append(_figures(next(run)))
                    except NonFiniteLossError as error:
                        found[name].append(error)
        return found


def _figures(epoch) -> dict[tuple[str, ...], float]:
    return {tuple(row[:3]): row.value for row in epoch.rows if row.metric not in OF_TIME}


def _assert_losses_are_equal(found, wanted) -> None:
    assert len(found) == len(wanted)
    for figures, expected in zip(found, wanted, strict=True):
        assert figures.keys() == expected.keys()
        own, other = ({key: value for key, value in one.items() if key[1] == "train"} for one in (figures, expected))
        assert own == pytest.approx(other, rel=RELATIVE, abs=1e-4)


def small(method: str = "supervised", *fields: str) -> RunSpec:
    recipe, *own = METHODS[method]
    changes: dict[str, object] = {}
    for field in (*SMALL, *own, "epochs=2", "lr=0.0003", *fields):
        changes |= parse(RunSpec, [field])  # a later field in the place of an earlier one
    return replace(recipe(), changes)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_pack_trains_what_each_run_trains_alone(method, tmp_path):
    contrast = () if method == "linear" else ("alpha=0.3", "losses.tau=0.2")
    specs = {
        "first": small(method, "seed=1"),
        "weights": small(method, "seed=2", *contrast),
        "rates": small(method, "seed=3", "lr=0.0001", "momentum=0.5", "weight_decay=0.01"),
        "larger": small(method, "seed=4", "cohort.size=3"),
    }
    runs = Runs(tmp_path, specs)
    for name, found in runs.together(*specs).items():
        _assert_losses_are_equal(found, runs.alone(name))


def test_joint_steps_in_double_precision_are_those_of_each_run(tmp_path, monkeypatch):
    normalise = Augment.normalise
    monkeypatch.setattr(Augment, "normalise", lambda self, images: normalise(self, images).double())
    changes = ("seed=1",), ("seed=2", "lr=0.01", "momentum=0.5", "weight_decay=0.01"), ("seed=3", "cohort.size=3")
    environment = Environment(data=write_folder(tmp_path / "pictures"), readers=0, threads=1)

    def built() -> list[RunState]:
        specs = [small("supervised", *own) for own in changes]
        runs = [RunState(spec, dataset_for(spec, environment), environment, tmp_path) for spec in specs]
        for run in runs:
            run.cohort.double()
        return runs

    alone, together = built(), built()
    for runs in (together, *([run] for run in alone)):
        assert len([*steps_of(runs)]) == 4
    for run, expected in zip(together, alone, strict=True):
        found, wanted = run.cohort.state_dict(), expected.cohort.state_dict()
        torch.testing.assert_close(found, wanted, rtol=IN_DOUBLE, atol=IN_DOUBLE)


def test_the_steps_of_a_pack_are_joint(tmp_path, monkeypatch):
    calls = _calls(monkeypatch)
    runs = Runs(tmp_path, {str(seed): small("supervised", f"seed={seed}") for seed in range(3)})
    runs.together("0", "1", "2")
    assert calls.count(3) == 8, "two epochs of four steps"


@pytest.mark.parametrize("networks", ["resnet8", "[resnet8,resnet8,resnet20]"])
def test_a_run_with_stacked_peers_has_joint_steps_of_its_own(networks, tmp_path, monkeypatch):
    calls, fields = _calls(monkeypatch), ("cohort.size=3", f"networks={networks}")
    specs = {peers: small("supervised", *fields, f"compute.peers={peers}") for peers in ("stacked", "apart")}
    runs = Runs(tmp_path, specs)
    stacked = runs.alone("stacked")
    assert calls == [2, *[1] * 8], "a check of the networks, and two epochs of four steps"
    _assert_losses_are_equal(stacked, runs.alone("apart"))
    assert len(calls) == 9


def _calls(monkeypatch) -> list[int]:
    """Return the numbers of cohorts of the stacks that are called from now on."""
    calls: list[int] = []
    forward = CohortStack.__call__
    monkeypatch.setattr(
        CohortStack, "__call__", lambda own, images: (calls.append(len(images)), forward(own, images))[1]
    )
    return calls


class Unshared(Method):
    """A method that calls the peers itself."""

    losses = Supervised.losses
    build = Supervised.build


@pytest.mark.usefixtures("own_registries")
def test_a_method_that_calls_its_peers_itself_has_no_stacked_peers(tmp_path):
    register.method("unshared")(Unshared)
    runs = Runs(tmp_path, {"run": small("supervised", "method=unshared", "compute.peers=stacked")})
    with pytest.raises(
        SpecError, match="requires a method of one forward pass .* but got method=unshared and 1 process"
    ):
        runs.alone("run")


def test_stacked_peers_are_not_compiled():
    with pytest.raises(SpecError, match="compute.peers=stacked requires compute.compile=off, but got compile=blocks"):
        small("supervised", "compute.peers=stacked", "compute.compile=blocks")


def test_a_run_that_diverges_leaves_the_others_alone(tmp_path):
    runs = Runs(
        tmp_path,
        {"good": small(), "diverges": small("supervised", "lr=1e30"), "other": small(*("supervised", "seed=5"))},
    )
    found = runs.together("good", "diverges", "other")
    assert isinstance(found["diverges"][-1], NonFiniteLossError)
    for name in ("good", "other"):
        _assert_losses_are_equal(found[name], runs.alone(name))


@pytest.mark.slow
def test_a_run_that_leaves_goes_on_alone_or_in_another_pack(tmp_path):
    specs = {name: small("supervised_bank", f"seed={seed}", "epochs=3") for seed, name in enumerate(("a", "b", "c"))}
    runs = Runs(tmp_path, specs)
    first = Pack()
    started = {name: runs.start(name, first) for name in specs}
    found = {name: [] for name in specs}
    for run in started.values():
        next(run)
    for name, run in started.items():
        found[name].append(_figures(next(run)))
    started["a"].close()
    for name in ("b", "c"):
        found[name].append(_figures(next(started[name])))
    started["b"].close()
    second = Pack()
    resumed = {name: runs.start(name, second) for name in ("a", "b")}
    for name, run in resumed.items():
        assert _figures(next(run)) == found[name][-1], "the epoch that it resumes from, once more"
    for name, run in {**resumed, "c": started["c"]}.items():
        found[name] += [_figures(epoch) for epoch in run]
    for name in specs:
        _assert_losses_are_equal(found[name], runs.alone(name))


class Unstackable(nn.Module):
    """The mean of the maps; it asks for a value of them, which torch.vmap refuses."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3)) if maps.abs().sum().item() >= 0 else maps.sum(dim=(2, 3))


@pytest.mark.usefixtures("own_registries")
def test_networks_that_cannot_be_stacked_are_trained_alone(tmp_path, caplog):
    @register.network("asks")
    def asks(num_classes: int, in_channels: int = 3) -> Network:
        return Network(nn.Conv2d(in_channels, 4, 3), Unstackable(), nn.Linear(4, num_classes))

    runs = Runs(tmp_path, {str(seed): small("supervised", f"seed={seed}", "networks=asks") for seed in range(2)})
    found = runs.together("0", "1")
    assert "cannot be trained together" in caplog.text
    for name in ("0", "1"):
        assert found[name] == runs.alone(name), "to the bit"
