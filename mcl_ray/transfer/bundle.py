"""A folder with all that others need of a trained member: tensors, program, config and card."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from mcl_ray.analysis.ranking import RunSummary, summary
from mcl_ray.config.environment import Environment
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import CheckpointError
from mcl_ray.results.atomic_io import write_folder
from mcl_ray.results.dataset_info import read_images
from mcl_ray.results.remote.pull import display_path
from mcl_ray.results.store import read_epochs, read_runs, read_spec
from mcl_ray.training.build import cohort_of, describe
from mcl_ray.training.checkpoint import CheckpointFolder, check_belongs
from mcl_ray.training.recorded_run import dataset_info
from mcl_ray.transfer.card import Export, to_card, to_config
from mcl_ray.transfer.member import Member
from mcl_ray.transfer.program import module_of, tensors_of, to_program, to_safetensors


def write_bundle(run_folder: Path, member: Member, target: Path, environment: Environment) -> list[Path]:
    """Export a member of a run, as its newest checkpoint has it, into a folder that is missing or empty.

    Args:
        run_folder: Of the run, with its checkpoints.
        member: Which networks.
        target: The folder to make, whole or not at all.
        environment: Where the images are, for a run whose folder does not say what it was trained on.

    Returns:
        The files.

    Raises:
        CheckpointError: there is no checkpoint, or none that is undamaged and of this run.
        StoreError: the folder cannot be made.
    """
    spec = read_spec(run_folder)
    images = read_images(run_folder) or dataset_info(load_dataset(spec.data, environment))
    found = CheckpointFolder(run_folder / "checkpoints").latest()
    if found is None:
        raise CheckpointError(f"a run with a checkpoint can be exported, but {display_path(run_folder)} has none")
    checkpoint, file = found
    check_belongs(checkpoint, file, digest=spec.digest, architecture=describe(spec, images))
    cohort = cohort_of(spec, images.num_classes, images.image_shape[0])
    cohort.load_state_dict(checkpoint.cohort)
    tensors, module = tensors_of(cohort, member), module_of(cohort, member)
    told = Export(
        member=member,
        spec=spec,
        images=images,
        summary=_figures(run_folder, checkpoint.epoch),
        epoch=checkpoint.epoch,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )
    return write_folder(
        target,
        {
            "model.safetensors": to_safetensors(tensors),
            "program.pt2": to_program(module, images.image_shape),
            "config.json": to_config(told).encode(),
            "README.md": to_card(told).encode(),
        },
    )


def _figures(run_folder: Path, epoch: int) -> RunSummary:
    """Those of an epoch, or of the last one before it that has any: later ones are of other weights."""
    epochs = read_epochs(run_folder)
    return summary(read_runs(run_folder), epochs.filter(pc.less_equal(epochs["epoch"], epoch)))
