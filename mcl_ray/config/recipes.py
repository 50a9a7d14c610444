"""The recipes: specs known by name. A recipe derives from another by replacing fields; none repeats a spec's defaults.

Source of the published settings: Yang et al., AAAI 2022 (arXiv 2104.12565) and its published code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from mcl_ray.config import yaml12
from mcl_ray.config.overrides import Spec, replace, validate
from mcl_ray.config.registry import Registry
from mcl_ray.config.spec import SPEC_VERSION, RunSpec
from mcl_ray.errors import SpecError, unknown

Recipe = Callable[[], RunSpec]
NO_MUTUAL_LEARNING = {f"losses.{weight}": 0.0 for weight in ("alpha", "beta", "gamma", "lam")}


def cifar() -> RunSpec:
    """Two resnet32 on CIFAR-100, the published 300 epochs. Other networks: networks=wrn_16_2."""
    return replace(RunSpec(recipe="cifar"), {"batch.sampler": "reference"})


def cifar10() -> RunSpec:
    """Two resnet32 on CIFAR-10, in the setting of CIFAR-100."""
    return replace(cifar(), {"recipe": "cifar10", "data.source": "cifar10"})


def cifar_x4() -> RunSpec:
    """Four resnet32 that share their stem, as published."""
    return replace(cifar(), {"recipe": "cifar_x4", "cohort.size": 4})


def cifar_x4_kd() -> RunSpec:
    """Four wrn_16_2 with logit distillation by the published rule."""
    return replace(
        cifar_x4(),
        {"recipe": "cifar_x4_kd", "cohort.networks": "wrn_16_2", "losses.logit_distillation": "reference"},
    )


def cifar_baseline() -> RunSpec:
    """Baseline of the published table: two resnet32, trained at the same time without mutual learning."""
    return replace(cifar(), {"recipe": "cifar_baseline"} | NO_MUTUAL_LEARNING)


def imagenet() -> RunSpec:
    """Two resnet18 on ImageNet with memory banks, the published 90 epochs. Other networks: networks=resnet34."""
    return replace(
        RunSpec(recipe="imagenet"),
        {
            "method": "supervised_bank",
            "data": {"source": "folder", "normalisation": "imagenet"},
            "batch": {"size": 256, "sampler": "shuffled"},
            "cohort.networks": "resnet18",
            "losses.tau": 0.07,
            "optimizer.weight_decay": 1e-4,
            "schedule": {"epochs": 90, "kind": "multistep", "milestones": (30, 60)},
        },
    )


def imagenet_x4() -> RunSpec:
    """Four resnet18 that share their stem, as published."""
    return replace(imagenet(), {"recipe": "imagenet_x4", "cohort.size": 4})


def imagenet_x4_kd() -> RunSpec:
    """Four resnet18 with logit distillation by the published rule."""
    return replace(imagenet_x4(), {"recipe": "imagenet_x4_kd", "losses.logit_distillation": "reference"})


def imagenet_baseline() -> RunSpec:
    """Baseline of the published table: two resnet18, trained at the same time without mutual learning."""
    return replace(imagenet(), {"recipe": "imagenet_baseline"} | NO_MUTUAL_LEARNING)


def moco() -> RunSpec:
    """Two resnet18 that learn from each other without labels, the published 200 epochs of ImageNet (MoCo v1)."""
    return replace(
        RunSpec(recipe="moco"),
        {
            "method": "moco",
            "data": {"source": "folder", "normalisation": "imagenet"},
            "augmentation": {"views": "moco_v1", "min_area": 0.2},
            "batch": {"size": 256, "sampler": "shuffled"},
            "cohort": {"networks": "resnet18", "sharing": "none", "head": "linear"},
            "losses": {"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "lam": 1.0, "tau": 0.07},
            "optimizer": {"lr": 0.03, "nesterov": False, "weight_decay": 1e-4},
            "schedule": {"epochs": 200, "kind": "multistep", "milestones": (120, 160)},
        },
    )


def moco_v2() -> RunSpec:
    """Recipe `moco` with the changes of MoCo v2: blur, a hidden layer in the heads, a cosine schedule."""
    return replace(
        moco(),
        {
            "recipe": "moco_v2",
            "augmentation.views": "moco_v2",
            "cohort.head": "mlp",
            "schedule": {"epochs": 200, "kind": "cosine"},
        },
    )


def moco_baseline() -> RunSpec:
    """Baseline of the published table: two resnet18, each with its own queue, without mutual learning."""
    return replace(moco(), {"recipe": "moco_baseline"} | NO_MUTUAL_LEARNING | {"losses.alpha": 1.0})


def lincls() -> RunSpec:
    """Linear classification of frozen features of the networks of --from, the published 100 epochs of ImageNet."""
    return replace(
        RunSpec(recipe="lincls"),
        {
            "method": "linear",
            "data": {"source": "folder", "normalisation": "imagenet"},
            "batch": {"size": 256, "sampler": "shuffled"},
            "cohort": {"networks": "resnet18", "sharing": "none"},
            "optimizer": {"lr": 30.0, "nesterov": False, "weight_decay": 0.0},
            "schedule": {"epochs": 100, "kind": "multistep", "milestones": (60, 80)},
        }
        | NO_MUTUAL_LEARNING,
    )


def digits() -> RunSpec:
    """Two resnet8 on scikit-learn's digits: real scans, seconds on a CPU."""
    return replace(
        RunSpec(recipe="digits"),
        {
            "data.source": "digits",
            "augmentation": {"crop_padding": 1, "flip": False},
            "batch": {"size": 40, "per_class": 4},
            "cohort": {"networks": "resnet8", "embedding_dim": 32},
            "optimizer.lr": 0.05,
            "schedule.epochs": 12,
            "evaluation.test": "at_end",
        },
    )


def digits_baseline() -> RunSpec:
    """Two resnet8 on the digits without mutual learning."""
    return replace(digits(), {"recipe": "digits_baseline"} | NO_MUTUAL_LEARNING)


RECIPES: Registry[Recipe] = Registry(
    "recipe",
    {
        recipe.__name__: recipe
        for recipe in (
            cifar,
            cifar10,
            cifar_x4,
            cifar_x4_kd,
            cifar_baseline,
            imagenet,
            imagenet_x4,
            imagenet_x4_kd,
            imagenet_baseline,
            moco,
            moco_v2,
            moco_baseline,
            lincls,
            digits,
            digits_baseline,
        )
    },
)


def load(name_or_file: str) -> RunSpec:
    """Return the recipe of this name, or the spec in the file at this path.

    Raises:
        SpecError: neither exists, or the file breaks a rule.
    """
    return load_named("recipe", RECIPES, RunSpec, SPEC_VERSION, name_or_file)


def load_named(
    kind: str,
    known: Mapping[str, Callable[[], Spec]],
    model: type[Spec],
    newest_version: int,
    name_or_file: str,
    held_out: float = 0.0,
) -> Spec:
    """Return the spec known by this name, or the one in the file at this path.

    Args:
        kind: the noun for error messages, `recipe` for example.
        known: name → function that builds the spec.
        model: the class of the spec.
        newest_version: the newest version of spec files that this program reads.
        name_or_file: a name in `known`, or the path of a .yaml or .yml file. A run in it that names a recipe has the
            recipe's values for the fields that the file leaves out.
        held_out: fraction of the training images that a run on a recipe holds out, unless the file has another one.

    Raises:
        SpecError: neither exists, or the file breaks a rule.
    """
    if name_or_file in known:
        return known[name_or_file]()
    if Path(name_or_file).suffix in (".yaml", ".yml"):
        tree = read_yaml(Path(name_or_file), newest_version)
        if model is RunSpec:
            return validate(model, _on_recipe(tree, held_out))
        on_recipes = {name: _on_recipe(tree[name], held_out) for name in RUN_FIELDS if tree.get(name) is not None}
        return validate(model, tree | on_recipes)
    raise SpecError(f"{unknown(kind, name_or_file, known)} (a spec file's name ends in .yaml)")


def plugins_of_file(name_or_file: str) -> tuple[str, ...]:
    """Return the plugins that the runs in a spec, search or suite file name; none for a name.

    Raises:
        SpecError: the file cannot be read, or they are no names of modules.
    """
    if Path(name_or_file).suffix not in (".yaml", ".yml"):
        return ()
    tree = read_yaml(Path(name_or_file), sys.maxsize)
    runs = [run for run in (tree, *(tree.get(name) for name in RUN_FIELDS)) if isinstance(run, dict)]
    named = [replace(RunSpec(), {"plugins": run["plugins"]}).plugins for run in runs if "plugins" in run]
    return tuple(module for modules in named for module in modules)


def _on_recipe(given: object, held_out: float) -> object:
    """Return the fields of a run on top of those of the recipe that they name; `digits` is `{recipe: digits}`.

    Args:
        given: the content of a file where it has a run.
        held_out: the recipe's fraction of training images that are held out, instead of its own.

    Raises:
        SpecError: there is no such recipe, and fields are missing that it would have.
    """
    fields = {"recipe": given} if isinstance(given, str) else given
    if not isinstance(fields, dict):
        return fields
    name = fields.get("recipe", "custom")
    if isinstance(name, str) and name in RECIPES:
        recipe = RECIPES[name]()
        fraction = held_out or recipe.data.validation_fraction
        return _merged(replace(recipe, {"data.validation_fraction": fraction}).model_dump(), fields)
    if isinstance(name, str) and name != "custom" and not fields.keys() >= _PARTS:
        raise SpecError(f"{unknown('recipe', name, RECIPES)}; a spec without a recipe's fields has recipe: custom")
    return fields


RUN_FIELDS = ("run", "then")
"""Fields of searches and suites that are runs."""
_PARTS = frozenset({"method", "data", "batch", "cohort", "losses", "optimizer", "schedule"})
"""Fields of a complete spec, which may be labelled with any name."""


def _merged(base: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return the mapping `base` with the entries of `given`, which replace those of `base` one by one at any depth."""
    merged = dict(base)
    for name, value in given.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_yaml(path: Path, newest_version: int) -> dict[str, object]:
    """Return the mapping in a spec file.

    Raises:
        SpecError: the file cannot be read, does not hold a mapping, or its version is newer than `newest_version`.
    """
    try:
        tree = yaml12.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read spec file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"spec file {path} must be YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise SpecError(f"spec file {path} must hold a mapping of fields to values, but holds {type(tree).__name__}")
    version = tree.get("version", newest_version)
    if not isinstance(version, int) or version > newest_version:
        raise SpecError(
            f"`version <= {newest_version}` must hold for a spec file, but {path} has version {version}; it may come "
            f"from a newer release"
        )
    return tree


def to_yaml(spec: RunSpec) -> str:
    """Return a spec as YAML, the content of a file that `load` reads back."""
    return yaml12.dump(spec.model_dump(mode="json"))
