"""Kinds of files that the program reads: how a small one is made, and what reading it gives.

Imported by the processes that make and read files, as it imports nearly all of the program.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from safetensors.torch import save_file

from mcl_ray import CohortTrainer, CohortTuner
from mcl_ray.config.environment import Environment
from mcl_ray.config.plugins import PluginRecord
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.encoders import read_encoders
from mcl_ray.results.dataset_info import DatasetInfo, read_dataset_info, write_dataset_info
from mcl_ray.results.plugin_info import read_plugins, write_plugins
from mcl_ray.results.stop_decision import decide_stop, is_stop_decided
from mcl_ray.results.store import SweepWriter, read_epochs, read_runs, read_sweeps, read_unreadable
from mcl_ray.results.tags import change_tags, read_tags
from mcl_ray.results.warm_start import WarmStart, read_warm_start, write_warm_start
from mcl_ray.training.checkpoint import Checkpoint, CheckpointFolder
from searches.tune.optuna_exporter import OptunaExporter, open_storage
from searches.tune.sampler_memory import SamplerMemory
from tests.support import known_trials
from tests.support.data import archive_in, npz_arrays
from tests.support.pictures import write_folder, write_parquet
from tests.support.synthetic import SweepSpec, spec, write_run

PICTURES, PARQUET = DataSpec(source="folder", image_size=16), DataSpec(source="parquet", image_size=16)
RESNET = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "layer1.0.conv1.weight": (4, 4, 3, 3), "fc.weight": (3, 4)}
Read = Callable[[Path], Any]
"""Reads what is in a folder; its value is compared, so that it holds figures, no paths and no times."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file."""

    make: Callable[[Path], object]
    """Writes one into a folder, and whatever it needs beside it."""
    file: str
    """Pattern of its path in the folder; of several, the last is damaged."""
    read: Read
    may_differ: bool = False
    """True if a damaged one may be read as another valid one: files of users' own, and notes without figures."""
    is_named: bool = True
    """True if errors name the file; those of spec and search files name their fields."""


def _records(folder: Path) -> None:
    write_run(folder, spec(epochs=5))


def _sweep(folder: Path) -> None:
    SweepWriter.create(folder, "s", SweepSpec(), objective="o", mode="max", trials_planned=1).finish("finished")


def _checkpoints(folder: Path) -> None:
    for epoch in (1, 2):
        weights = {"weight": torch.full((300,), float(epoch))}
        CheckpointFolder(folder / "checkpoints").save(
            Checkpoint(epoch=epoch, digest="d", architecture="a", cohort=weights, optimizer={}, rows=[])
        )


def _read_checkpoint(folder: Path) -> Any:
    found = CheckpointFolder(folder / "checkpoints").latest()
    assert found is not None
    return [found[0].epoch, found[0].cohort["weight"].tolist()]


def _images_json(folder: Path) -> None:
    write_dataset_info(
        folder,
        DatasetInfo(
            source="folder",
            class_names=("a", "b"),
            mean=(0.51, 0.42, 0.33),
            std=(0.1, 0.2, 0.3),
            image_shape=(3, 16, 16),
            counts={"train": 8, "test": 4},
        ),
    )


def _study(folder: Path) -> None:
    with OptunaExporter(known_trials.sweep(), folder, [known_trials.trial(number) for number in range(4)]):
        pass


def _read_study(folder: Path) -> Any:
    _study(folder)  # as a resumed sweep does, from its records
    study = optuna.load_study(study_name=folder.name, storage=open_storage(f"sqlite:///{folder / 'study.db'}"))
    return [[one.state.name, one.value, one.params, one.intermediate_values] for one in study.trials]


def _sampler(folder: Path) -> None:
    SamplerMemory(folder).save({"generation": 7}, {f"{number:04d}": {"weight": number / 7} for number in range(9)})


def _read_sampler(folder: Path) -> Any:
    memory = SamplerMemory(folder)
    return [memory.of_study, memory.of_trials]


def _data(source: DataSpec, name: str) -> Read:
    """Return what reads a data set with its cache: names, labels, statistics and each image."""

    def read(folder: Path) -> Any:
        found = load_dataset(source, Environment(data=folder / name, results=folder / "results"))
        images, skipped = [], []
        for split in (found.train, found.test):
            for number in range(len(split)):
                try:
                    one = split.read(number) if hasattr(split, "read") else split.images[number].tobytes()
                    images.append(hashlib.sha256(one).hexdigest()[:8])
                except OSError as error:  # training counts, names and bounds them
                    skipped.append(str(error))
        labels = [found.train.labels.tolist(), found.test.labels.tolist()]
        return [found.class_names, labels, found.mean, found.std, skipped or images]

    return read


def _cached(source: DataSpec, write: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        write(folder / name)
        _data(source, name)(folder)

    return make


def _encoder(folder: Path, suffix: str) -> None:
    weights = {name: torch.rand(shape) for name, shape in RESNET.items()}
    file = folder / f"weights{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save({"state_dict": weights}, file)


def _read_encoder(folder: Path) -> Any:
    (file,) = folder.glob("weights.*")
    return [[name, tensor.tolist()] for name, tensor in read_encoders(file)[0].items()]


def _npz(folder: Path) -> None:
    arrays: dict[str, Any] = dict(npz_arrays())
    np.savez(folder / "images.npz", **arrays)


def _yaml(folder: Path) -> None:
    (folder / "run.yaml").write_text("recipe: digits\nseed: 3\nlosses:\n  alpha: 0.25\nschedule:\n  epochs: 3\n")


def _search(folder: Path) -> None:
    (folder / "search.yaml").write_text(
        "name: mine\nrun: digits\ntrials: 3\nspace:\n  losses.alpha: {kind: float, low: 0.1, high: 0.9}\n"
    )


def _json(value: Any) -> Any:
    return dataclasses.asdict(value) if value is not None else None


KINDS: dict[str, Kind] = {
    "run.parquet": Kind(make=_records, file="runs/*/run.parquet", read=lambda at: read_runs(at).to_pylist()),
    "epochs.parquet": Kind(make=_records, file="runs/*/epochs-a*.parquet", read=lambda at: read_epochs(at).to_pylist()),
    "sweep.parquet": Kind(make=_sweep, file="sweeps/*/sweep.parquet", read=lambda at: read_sweeps(at).to_pylist()),
    "checkpoint": Kind(make=_checkpoints, file="checkpoints/*.pt", read=_read_checkpoint),
    "images.json": Kind(make=_images_json, file="images.json", read=lambda at: _json(read_dataset_info(at))),
    "stop.json": Kind(make=lambda at: decide_stop(at, 40), file="stop.json", read=lambda at: is_stop_decided(at, 60)),
    "plugins.json": Kind(
        make=lambda at: write_plugins(
            at, 1, [PluginRecord(module="a", distribution="b", version="1", sha256=hashlib.sha256(b"").hexdigest())]
        ),
        file="plugins.json",
        read=lambda at: [[number, *map(_json, found)] for number, found in read_plugins(at).items()],
        may_differ=True,
    ),
    "warm_start.json": Kind(
        make=lambda at: write_warm_start(at, [WarmStart(sweep_id="s", num_taken=3, left_out={"failed": 2})]),
        file="warm_start.json",
        read=lambda at: [_json(one) for one in read_warm_start(at)],
        may_differ=True,
    ),
    "tags.json": Kind(
        make=lambda at: change_tags(at, add=["one", "two"]), file="tags.json", read=read_tags, may_differ=True
    ),
    "unreadable.json": Kind(
        make=lambda at: (at / "unreadable.json").write_text('["a/b.png", "c/d.png"]'),
        file="unreadable.json",
        read=read_unreadable,
        may_differ=True,
    ),
    "sampler.json": Kind(make=_sampler, file="sampler_0000.json", read=_read_sampler),
    "study.db": Kind(make=_study, file="study.db", read=_read_study),
    "index of a folder": Kind(
        make=_cached(PICTURES, write_folder, "pictures"),
        file="results/cache/*/index*",
        read=_data(PICTURES, "pictures"),
    ),
    "statistics": Kind(
        make=_cached(PICTURES, write_folder, "pictures"),
        file="results/cache/*/statistics*",
        read=_data(PICTURES, "pictures"),
    ),
    "positions of images": Kind(
        make=_cached(PARQUET, write_parquet, "pictures.parquet"),
        file="results/cache/*/positions*",
        read=_data(PARQUET, "pictures.parquet"),
    ),
    "copy of images": Kind(
        make=_cached(PARQUET, write_parquet, "pictures.parquet"),
        file="results/cache/*/images*",
        read=_data(PARQUET, "pictures.parquet"),
    ),
    "image": Kind(
        make=lambda at: write_folder(at / "pictures"),
        file="pictures/train/red/*.png",
        read=_data(PICTURES, "pictures"),
        may_differ=True,
    ),
    "parquet of images": Kind(
        make=lambda at: write_parquet(at / "pictures.parquet"),
        file="pictures.parquet",
        read=_data(PARQUET, "pictures.parquet"),
        may_differ=True,
    ),
    "npz": Kind(
        make=_npz,
        file="images.npz",
        read=_data(DataSpec(source="npz"), "images.npz"),
    ),
    "archive": Kind(
        make=archive_in,
        file="images.tar.gz",
        read=_data(DataSpec(source="cifar", checksum="off"), "images.tar.gz"),
        may_differ=True,
    ),
    "weights of torch": Kind(
        make=lambda at: _encoder(at, ".pt"), file="weights.pt", read=_read_encoder, may_differ=True
    ),
    "safetensors": Kind(
        make=lambda at: _encoder(at, ".safetensors"), file="weights.safetensors", read=_read_encoder, may_differ=True
    ),
    "spec file": Kind(
        make=_yaml,
        file="run.yaml",
        read=lambda at: [stage.spec.digest for stage in CohortTrainer(at / "run.yaml").estimate()],
        may_differ=True,
        is_named=False,
    ),
    "search file": Kind(
        make=_search,
        file="search.yaml",
        read=lambda at: CohortTuner(at / "search.yaml").experiment.model_dump(mode="json"),
        may_differ=True,
        is_named=False,
    ),
}
