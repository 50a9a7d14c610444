"""The contents of an export's files, made from the newest checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from mcl_ray.analysis.ranking import RunSummary, summary
from mcl_ray.config.environment import Environment
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import CheckpointError
from mcl_ray.results.dataset_info import read_dataset_info
from mcl_ray.results.reader import read_epochs, read_runs, read_spec
from mcl_ray.results.remote.pull import display_path
from mcl_ray.training.build import cohort_of, describe
from mcl_ray.training.checkpoint import CheckpointFolder, check_belongs
from mcl_ray.training.recorded_run import dataset_info
from mcl_ray.transfer.card import Export, to_card, to_config
from mcl_ray.transfer.member import Member
from mcl_ray.transfer.program import module_of, tensors_of, to_program, to_safetensors


def bundle_contents(run_folder: Path, member: Member, environment: Environment) -> dict[str, bytes]:
    """Return file name → content of the export of a member.

    Args:
        run_folder: Folder of the run, with its checkpoints.
        member: A peer, or the ensemble.
        environment: Where the data set is, for an older run whose folder has no `images.json`.

    Raises:
        CheckpointError: there is no checkpoint, or none that is undamaged and belongs to the run.
        DataError: the data set is needed and cannot be read.
    """
    spec = read_spec(run_folder)
    dataset = read_dataset_info(run_folder) or dataset_info(load_dataset(spec.data, environment))
    found = CheckpointFolder(run_folder / "checkpoints").latest()
    if found is None:
        raise CheckpointError(f"a run with a checkpoint can be exported, but {display_path(run_folder)} has none")
    checkpoint, file = found
    check_belongs(checkpoint, file, digests=spec.digests, architecture=describe(spec, dataset))
    cohort = cohort_of(spec, dataset.num_classes, dataset.image_shape[0])
    cohort.load_state_dict(checkpoint.cohort)
    tensors, module = tensors_of(cohort, member), module_of(cohort, member)
    export = Export(
        member=member,
        spec=spec,
        dataset=dataset,
        summary=_summary_until(run_folder, checkpoint.epoch),
        epoch=checkpoint.epoch,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )
    return {
        "model.safetensors": to_safetensors(tensors),
        "program.pt2": to_program(module, dataset.image_shape),
        "config.json": to_config(export).encode(),
        "README.md": to_card(export).encode(),
    }


def _summary_until(run_folder: Path, epoch: int) -> RunSummary:
    """Return the summary with the figures up to an epoch: later ones belong to other weights."""
    epochs = read_epochs(run_folder)
    return summary(read_runs(run_folder), epochs.filter(pc.less_equal(epochs["epoch"], epoch)))
