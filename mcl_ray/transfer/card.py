"""The description of an export: `config.json` for programs, and the model card, `README.md`, for people.

A card names no address, as it does not know where the network will be published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mcl_ray.analysis.ranking import RunSummary
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.results.reader import to_yaml
from mcl_ray.transfer import usage
from mcl_ray.transfer.member import Member

CONFIG_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Export:
    """A member that is exported, and what the card says about it."""

    member: Member
    spec: RunSpec
    dataset: DatasetInfo
    summary: RunSummary
    """Record of the run, with its figures up to the epoch of the weights."""
    epoch: int
    """Epochs that the weights were trained for."""
    parameters: int
    """Parameters of the member, without heads."""

    @property
    def architecture(self) -> str:
        """Name of the network, `resnet8`; of an ensemble, the names of all, `resnet8 + resnet20`."""
        return " + ".join(self.member.networks)

    @property
    def classifies(self) -> bool:
        """True if the output is logits, and not features."""
        return self.spec.is_supervised

    @property
    def output(self) -> Literal["logits", "features"]:
        """Output of the networks."""
        return "logits" if self.classifies else "features"


def to_config(export: Export) -> str:
    """Return what a program needs to use the networks, as JSON."""
    dataset = export.dataset
    content = {
        "version": CONFIG_VERSION,
        "architecture": list(export.member.networks),
        "member": export.member.name,
        "output": export.output,
        "num_classes": len(dataset.class_names),
        "class_names": dataset.class_names,
        "input_size": dataset.image_shape,
        "mean": dataset.mean,
        "std": dataset.std,
        "run": export.summary.run["run_id"],
        "spec_digest": export.spec.digest,
        "epoch": export.epoch,
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def to_card(export: Export) -> str:
    """Return the model card: Markdown with front matter."""
    parts = [
        _front_matter(export),
        _introduction(export),
        _files(export),
        _images(export.dataset, is_encoded=export.spec.data.is_encoded),
        usage.section(export.member, export.dataset, export.output),
        _figures(export),
        _training(export),
        _LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(export: Export) -> str:
    task = "image-classification" if export.classifies else "image-feature-extraction"
    tags = [task, "mutual-contrastive-learning", *dict.fromkeys(export.member.networks)]
    content = {
        "library_name": "pytorch",
        "pipeline_tag": task,
        "license": "other",
        "license_name": "not-stated",
        "metrics": ["accuracy"],
        "tags": tags,
    }
    return f"---\n{to_yaml(content)}---"


def _introduction(export: Export) -> str:
    member, run = export.member, export.summary.run
    size = export.spec.cohort.size
    part = f"the mean of the logits of all {size} peers" if member.is_ensemble else f"{member.name} of {size}"
    if size == 1:
        part = "one network, without peers,"
    chosen = f" It is {member.reason}." if member.reason else ""
    return (
        f"# {run['run_id']}: {member.name}\n\n"
        f"{export.architecture}, {export.parameters:,} parameters, {_purpose(export)}: "
        f"{part} that trained in run `{run['run_id']}` by mcl-ray {run['code_version']} (networks that "
        f"teach each other: Mutual Contrastive Learning, Yang et al., AAAI 2022, arXiv 2104.12565). The weights are "
        f"those after epoch {export.epoch} of {export.spec.schedule.epochs}.{chosen}"
    )


def _purpose(export: Export) -> str:
    if export.classifies:
        return f"for images of {export.dataset.num_classes} classes"
    return "for features of images, learned without labels, before the head that was contrasted"


def _files(export: Export) -> str:
    output = "logits [B, classes]" if export.classifies else "features [B, F]"
    complete = ", each complete: the stem that peers share is included in each of them"
    rows = [
        ("model.safetensors", usage.names(export.member) + (complete if _repeats_stem(export) else "")),
        ("program.pt2", f"a `torch.export` program: normalised float32 images [B, C, H, W] to {output}"),
        ("config.json", "classes in the order of the logits, mean, standard deviation, size of the images"),
    ]
    return "## Files\n\n" + _table(("file", "what it is"), [(f"`{name}`", content) for name, content in rows])


def _repeats_stem(export: Export) -> bool:
    return export.member.is_ensemble and export.spec.cohort.shares_stem


def _images(dataset: DatasetInfo, *, is_encoded: bool) -> str:
    channels, height, width = dataset.image_shape
    resized = f"resized to {round(height * 256 / 224)} pixels at their shorter side and cropped at the centre to "
    means, stds = (", ".join(f"{value:.6g}" for value in values) for values in (dataset.mean, dataset.std))
    return (
        "## Images\n\n"
        f"Images are {resized if is_encoded else 'taken as they are, '}{channels} × {height} × {width} (channels, "
        "height, width), scaled to 0..1, less the mean and over the standard deviation of each channel: "
        f"mean {means}; standard deviation {stds}. `config.json` has these in full."
    )


def _figures(export: Export) -> str:
    scores = [score for score in export.summary.scores if score.member == export.member.name]
    if not scores:
        return f"## Figures\n\nThe run's record has none of {export.member.name} up to epoch {export.epoch}."
    rows = [
        (
            score.split,
            str(score.epoch),
            f"{score.top1:.2f}",
            "–" if score.top5 is None else f"{score.top5:.2f}",
            f"{export.dataset.counts[score.split]:,}",
            "1",
        )
        for score in scores
    ]
    table = _table(("split", "epoch", *export.summary.headers[-2:], "images", "runs (n)"), rows)
    bf16 = "\n\nThey were measured in bf16; the files are float32." if export.spec.compute.precision == "bf16" else ""
    return f"## Figures\n\n{table}\n\nOn {export.summary.run['hardware']}.{bf16}"


def _training(export: Export) -> str:
    counts = ", ".join(f"{count:,} {split}" for split, count in export.dataset.counts.items())
    return (
        "## Training\n\n"
        f"Data: `{export.dataset.source}`, {len(export.dataset.class_names)} classes, {counts} images. Seed "
        f"{export.spec.seed}, torch {export.summary.run['torch_version']}. The resolved spec, which `mcl train` reads, "
        f"of digest {export.spec.digest}:\n\n"
        f"```yaml\n{to_yaml(export.spec.model_dump(mode='json'))}```"
    )


_LICENCE = (
    "## Licence\n\n"
    "None is stated. Weights inherit the terms of the images that they were trained on, and those of any weights that "
    "they started from; whoever passes them on has to state the terms, here and as `license` at the top of this file."
)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
