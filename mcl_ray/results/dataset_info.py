"""The description of the data set of a run, stored in its folder as `images.json`.

It has what is needed to use the trained networks without the data. The images themselves are in `mcl_ray.data`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import read_bytes, write_atomically
from mcl_ray.results.schema import verified, with_checksum

IMAGES_FILE = "images.json"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a data set."""

    source: str
    """Name of the source, `cifar`, `folder` …"""
    class_names: tuple[str, ...]
    """Class names, in the order of the logits."""
    mean: tuple[float, ...]
    """Mean of each channel, of images scaled to 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, of images scaled to 0..1."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of a network's input."""
    counts: dict[str, int]
    """Split → number of its images."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Description of what the source has and was not used → its number."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def write_dataset_info(run_folder: Path, dataset: DatasetInfo) -> None:
    """Write the description of a run's data set into its folder.

    Raises:
        StoreError: the file cannot be written.
    """
    content = json.dumps(with_checksum(asdict(dataset)), ensure_ascii=False, indent=1) + "\n"
    write_atomically(run_folder / IMAGES_FILE, content.encode())


def read_dataset_info(run_folder: Path) -> DatasetInfo | None:
    """Return the description of a run's data set; None for an older run, whose folder has none.

    Raises:
        StoreError: the file is damaged.
    """
    file = run_folder / IMAGES_FILE
    if not file.exists():
        return None
    try:
        content = verified(json.loads(read_bytes(file)))
        channels, height, width = content.pop("image_shape")
        mean, std, names = (tuple(content.pop(name)) for name in ("mean", "std", "class_names"))
        return DatasetInfo(**content, class_names=names, mean=mean, std=std, image_shape=(channels, height, width))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"the record of a run's data set must be complete, but {file} is damaged: {error}") from error
