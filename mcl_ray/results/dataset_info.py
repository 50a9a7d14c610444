"""What a run was trained on, as its folder says in `images.json`: whoever uses its networks needs this, and no data.

The images themselves are `mcl_ray.data`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import read_bytes, write_atomically

IMAGES_FILE = "images.json"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The images of a run, in the words that its networks need."""

    source: str
    class_names: tuple[str, ...]
    """In the order of the logits."""
    mean: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    std: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    image_shape: tuple[int, int, int]
    """Channels, height, width, as a network sees them."""
    counts: dict[str, int]
    """Split → its images."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def write_images(run_folder: Path, images: DatasetInfo) -> None:
    """Put on record what a run is trained on."""
    content = json.dumps(asdict(images), ensure_ascii=False, indent=1) + "\n"
    write_atomically(run_folder / IMAGES_FILE, content.encode())


def read_images(run_folder: Path) -> DatasetInfo | None:
    """What a run was trained on; None for a run from before this was on record.

    Raises:
        StoreError: the record is damaged.
    """
    file = run_folder / IMAGES_FILE
    if not file.exists():
        return None
    try:
        told = json.loads(read_bytes(file))
        channels, height, width = told.pop("image_shape")
        mean, std, class_names = (tuple(told.pop(name)) for name in ("mean", "std", "class_names"))
        return DatasetInfo(**told, class_names=class_names, mean=mean, std=std, image_shape=(channels, height, width))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"the record of a run's images must be whole, but {file} is damaged: {error}") from error
