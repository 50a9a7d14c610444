"""Parts of one's own, registered by decorator in this process, train as the built-in ones do."""

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mcl_ray import CohortTrainer, CohortTuner, register
from mcl_ray.config import recipes
from mcl_ray.config.methods import METHODS
from mcl_ray.config.overrides import replace, resolve
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.data.arrays import arrays_of_pairs, dataset_of_arrays
from mcl_ray.errors import DataError, SpecError
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import Method, StepLosses, outputs, weighted_sum
from mcl_ray.models.network import GlobalAveragePool, Network
from mcl_ray.models.registry import build_network
from mcl_ray.training.checkpoint import CheckpointFolder
from searches.spec import search_registry
from searches.spec.fields import without_effect
from searches.spec.space import active
from searches.spec.sweep import SweepSpec
from searches.tune.converters import check_sampler, to_sampler

pytestmark = pytest.mark.usefixtures("own_registries")


def tiny(num_classes, in_channels):
    stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU())
    branch = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), GlobalAveragePool())
    return Network(stem, branch, nn.Linear(6, num_classes))


def train(tmp_path, *overrides, epochs=1, **options):
    return CohortTrainer("digits", overrides=overrides, epochs=epochs, results=tmp_path, readers=0, **options)


def test_a_network_trains_shares_its_stem_resumes_and_is_exported(tmp_path):
    register.network("tiny")(tiny)
    assert NETWORKS.module_of("tiny") == __name__
    trainer = train(tmp_path, "networks=tiny", "cohort.size=3")
    (stage,) = trainer.estimate()
    stem, rest = 4 * 9 + 4, 6 * 4 * 9 + 6 + 6 * 10 + 10
    head = 6 * 32 + 32 + 32 * 32 + 32
    assert stage.estimate.parameters >= stem + 3 * (rest + head - 64), "one stem, and all else three times"
    run = trainer.fit()
    assert run.state == "finished"
    assert train(tmp_path, "networks=tiny", "cohort.size=3", resume=True).fit().run_id == run.run_id
    files = {file.name: file for file in run.export("0", tmp_path / "export")}
    program = torch.export.load(files["program.pt2"]).module()
    assert program(torch.zeros(5, 1, 8, 8)).shape == (5, 10)


def test_a_function_that_returns_no_network_is_refused():
    register.network("linear")(lambda num_classes, in_channels: nn.Linear(in_channels, num_classes))
    with pytest.raises(SpecError, match="must return a .*Network, but that of 'linear' returned Linear"):
        build_network("linear", 10)


def stripes(count, seed):
    labels = np.arange(count) % 2
    images = np.random.default_rng(seed).integers(0, 60, (count, 1, 8, 8), dtype=np.uint8)
    images[labels == 1, :, ::2] += 150
    return images, labels


def test_a_data_set_is_loaded_by_its_function_and_counted_for_estimates(tmp_path):
    calls = []

    @register.dataset("stripes")
    def load(folder, *, download):
        calls.append((folder, download))
        return dataset_of_arrays(train=stripes(80, 0), test=stripes(40, 1), class_names=["plain", "striped"])

    trainer = train(tmp_path, "source=stripes", "batch.size=16", "per_class=8", epochs=3, data=tmp_path, download=True)
    run = trainer.fit()
    assert calls == [(tmp_path, True)]
    (stage,) = trainer.estimate()
    assert (stage.estimate.train_images, stage.estimate.classes) == (80, 2)
    assert run.metrics["test/top1/mean"] > 90, "it learned these images, not others"


def test_a_data_set_of_unknown_size_is_needed_for_an_estimate(tmp_path):
    register.dataset("stripes")(lambda folder, download: None)
    with pytest.raises(DataError, match="known by its images alone, but .*nowhere has none"):
        train(tmp_path, "source=stripes", data=tmp_path / "nowhere").estimate()
    with pytest.raises(DataError, match="must return a .*Dataset of ImageSets, but that of 'stripes' returned NoneTyp"):
        train(tmp_path, "source=stripes", data=tmp_path).fit()


@pytest.mark.parametrize(
    ("images", "labels", "rule"),
    [
        (np.zeros((2, 1, 3, 3)), [0, 1], r"train has float64 \[2, 1, 3, 3\]"),
        (np.zeros((2, 3, 3), np.uint8), [0, 1], r"train has uint8 \[2, 3, 3\]"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0, 1, 1], r"int64 \[3\]"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0, -1], "`0 <= label < 2` must hold, but train has -1 to 0"),
        (np.zeros((0, 1, 3, 3), np.uint8), np.zeros(0, np.int64), "train has no image"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, rule):
    with pytest.raises(DataError, match=rule):
        dataset_of_arrays(train=(images, np.asarray(labels)), test=stripes(4, 0), class_names=["a", "b"])


def test_a_data_set_of_torchvision_becomes_arrays():
    images, _ = stripes(4, 0)
    grey, labels = arrays_of_pairs([(image[0], label) for label, image in enumerate(images)])
    np.testing.assert_array_equal(grey, images)
    assert labels.tolist() == [0, 1, 2, 3]
    colour, _ = arrays_of_pairs([(np.zeros((5, 4, 3), np.uint8), 0)])
    assert colour.shape == (1, 3, 5, 4)
    with pytest.raises(DataError, match=r"of one size, but got uint8 of \(5, 4\), \(8, 8\)"):
        arrays_of_pairs([(images[0, 0], 0), (np.zeros((5, 4), np.uint8), 1)])


class Smoothed(Method):
    """Cross-entropy with smoothed labels, which counts its steps."""

    steps = 0

    def losses(self, batch):
        logits_NBC = outputs(self.peers, batch.images, bf16=self.bf16).logits
        smoothed = [F.cross_entropy(logits_BC, batch.labels, label_smoothing=0.1) for logits_BC in logits_NBC]
        loss = batch.shares.weight * torch.stack(smoothed).sum()
        return StepLosses(loss, {"cross_entropy": loss})

    def after_optimizer_step(self):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_a_method_trains_without_an_edit_in_the_package(tmp_path):
    register.method("smoothed", passes=3)(Smoothed)
    run = train(tmp_path, "method=smoothed").fit()
    assert (run.state, run.spec.method) == ("finished", "smoothed")
    checkpoint, _ = CheckpointFolder(run.folder / "checkpoints").latest()
    assert "steps" in checkpoint.method


def test_a_method_is_what_its_attributes_say(tmp_path):
    register.method("unlabelled", is_supervised=False, num_views=2, needs_contrast=True, own_fields=("queue.",))(Method)
    with pytest.raises(SpecError, match="method=unlabelled requires data.source=folder or parquet, but got .*=digits"):
        train(tmp_path, "method=unlabelled").estimate()
    with pytest.raises(SpecError, match="method=unlabelled requires a contrastive weight > 0"):
        CohortTrainer("moco", method="unlabelled", alpha=0, beta=0, gamma=0, lam=0).estimate()
    CohortTrainer("moco", overrides=["method=unlabelled", "queue.keys=8", "neighbours=3"]).estimate()
    with pytest.raises(SpecError, match="bank.negatives requires method=supervised_bank, but got method=unlabelled"):
        CohortTrainer("moco", overrides=["method=unlabelled", "bank.negatives=8"]).estimate()
    with pytest.raises(SpecError, match="unknown method 'unlabeled'; did you mean 'unlabelled'"):
        CohortTrainer("moco", method="unlabeled").estimate()
    assert METHODS.module_of("unlabelled") == __name__


def test_what_is_no_method_is_refused(tmp_path):
    register.method("function")(tiny)
    with pytest.raises(SpecError, match="must be a subclass of .*Method, but 'function' is <function tiny"):
        train(tmp_path, "method=function").fit()


def spread(grid):
    own_BMN = grid.logits.diagonal(dim1=0, dim2=1)
    return (own_BMN - own_BMN.mean(-1, keepdim=True)).square().mean()


def grid_of(num_peers):
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(num_peers, 6, 4, generator=generator).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return in_batch_grid(embeddings, labels, torch.arange(6), 0.5), embeddings


def test_a_loss_term_is_computed_from_the_grid_and_weighted():
    register.loss_term("spread")(spread)
    grid, embeddings = grid_of(3)
    weights = LossSpec(alpha=0.2, beta=0, gamma=0, lam=0, extra={"spread": 0.7})
    terms = contrastive_terms(grid, weights)
    own = torch.stack([grid.logits[i, i] for i in range(3)])
    expected = sum(((own[i] - own.mean(0)) ** 2).sum() for i in range(3)) / own.numel()
    torch.testing.assert_close(terms["spread"], expected)
    torch.testing.assert_close(weighted_sum(terms, weights), 0.2 * terms["vcl"] + 0.7 * terms["spread"])
    terms["spread"].backward()
    assert embeddings.grad.abs().sum() > 0
    assert "spread" not in contrastive_terms(grid, LossSpec(extra={"spread": 0.0})), "a weight of zero costs nothing"


def test_what_is_no_scalar_is_no_loss_term():
    register.loss_term("whole")(lambda grid: grid.logits)
    with pytest.raises(SpecError, match=r"without dimensions, but that of 'whole' is \[2, 2, 6, 6\]"):
        contrastive_terms(grid_of(2)[0], LossSpec(extra={"whole": 1.0}))


def test_a_run_learns_from_its_own_loss_term_alone(tmp_path):
    register.loss_term("spread")(spread)
    weights = ("alpha=0", "beta=0", "gamma=0", "lam=0", "losses.extra.spread=1.0")
    run = train(tmp_path, *weights).fit()
    assert run.metrics["train/spread/cohort"] > 0
    assert run.spec.losses.extra == {"spread": 1.0}
    assert {*run.spec.plugins} == {__name__}


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["losses.extra.spraed=1"], "unknown loss term 'spraed'; did you mean 'spread'"),
        (["losses.extra.vcl=1"], "names the terms of plugins, but got the built-in vcl"),
        (["losses.extra.spread=-1"], "losses.extra.spread must be greater than or equal to 0, but got -1"),
        (["losses.extra.spread=true"], "extra must be a number"),
        (["losses.extra={a b: 1}"], "losses.extra"),
    ],
)
def test_weights_of_loss_terms_are_checked(tmp_path, overrides, rule):
    register.loss_term("spread")(spread)
    with pytest.raises(SpecError, match=rule):
        train(tmp_path, *overrides).estimate()


def test_a_method_without_a_grid_has_no_extra_terms():
    register.loss_term("spread")(spread)
    with pytest.raises(
        SpecError, match="losses.extra requires method=supervised or supervised_bank, but got method=mo"
    ):
        CohortTrainer("moco", overrides=["losses.extra.spread=1"]).estimate()


@pytest.mark.parametrize("name", ["run.losses.extra.spread", "losses.extra.spread", "extra.spread"])
def test_a_weight_has_a_short_name_too(name):
    register.loss_term("spread")(spread)
    search = search_registry.load("digits").with_overrides([f"{name}=0.5"])
    assert search.run.losses.extra == {"spread": 0.5}
    assert search.with_overrides([f"{name}=null"]).run == search_registry.digits().run
    assert resolve(RunSpec, name.removeprefix("run.")) == "losses.extra.spread"


def test_a_loss_term_is_searched_from_a_weight_of_zero():
    register.loss_term("spread")(spread)
    wide = ["space.losses.extra.spread={kind: float, low: 0, high: 1}"]
    search = search_registry.load("digits").with_overrides(wide).with_named_plugins()
    assert search.first_points[0]["losses.extra.spread"] == 0.0
    assert search.run.plugins == (__name__,)
    assert search.trial_run({"losses.extra.spread": 0.25}).losses.extra == {"spread": 0.25}
    assert SweepSpec.model_validate(search.model_dump(mode="json")) == search


def test_the_weight_of_a_term_decides_whether_tau_is_searched():
    register.loss_term("spread")(spread)
    weights = [f"run.losses.{name}=0" for name in ("alpha", "beta", "gamma", "lam")]
    wide = "space={tau: {kind: float, low: 0.1, high: 1}, losses.extra.spread: {kind: float, low: 0, high: 1}}"
    search = search_registry.load("digits").with_overrides([*weights, wide, "baseline={}"])
    assert active(search.space, {"losses.extra.spread": 0.0}) == ("losses.extra.spread",)
    assert active(search.space, {"losses.extra.spread": 0.5}) == ("losses.extra.spread", "losses.tau")
    assert without_effect(search.space) == []


def test_a_recipe_and_a_search_are_known_by_their_names(tmp_path):
    @register.recipe
    def brief():
        """One epoch."""
        return replace(recipes.digits(), {"recipe": "brief", "schedule.epochs": 1})

    @register.search
    def narrow():
        """Two trials."""
        return replace(search_registry.digits(), {"name": "narrow", "trials": 2})

    (stage,) = CohortTrainer("brief", results=tmp_path).estimate()
    assert (stage.spec.recipe, stage.spec.schedule.epochs) == ("brief", 1)
    (tmp_path / "search.yaml").write_text("{run: brief, space: {losses.tau: {kind: float, low: 0.1, high: 1}}}")
    assert CohortTuner(tmp_path / "search.yaml").experiment.run.schedule.epochs == 1
    assert CohortTuner("narrow").experiment.trials == 2
    with pytest.raises(SpecError, match="unknown recipe 'breif'; did you mean 'brief'"):
        CohortTrainer("breif")


def test_a_sampler_proposes_points_of_the_space():
    register.sampler("own", learns_from_others=True)(lambda seed: optuna.samplers.RandomSampler(seed=seed))
    search = search_registry.load("digits").with_overrides(["sampler.kind=own"])
    check_sampler(search)
    assert search.with_named_plugins().run.plugins == (__name__,)
    assert isinstance(to_sampler(search), optuna.samplers.RandomSampler)
    with pytest.raises(SpecError, match="startup_trials goes with kind=tpe or gp and only with it, but got kind=own"):
        search_registry.load("digits").with_overrides(["sampler.kind=own", "startup_trials=3"])
    with pytest.raises(SpecError, match="unknown sampler 'owm'; did you mean 'own'"):
        search_registry.load("digits").with_overrides(["sampler.kind=owm"])
    register.sampler("none")(lambda seed: None)
    with pytest.raises(SpecError, match="must return a sampler of Optuna, but that of 'none' returned NoneType"):
        to_sampler(search_registry.load("digits").with_overrides(["sampler.kind=none"]))
