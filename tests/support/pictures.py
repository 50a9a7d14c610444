"""Small encoded images to train on: each class has a colour, each image a shade of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (200, 40, 40)}


def picture(name: str, number: int, side: int = 20, kind: str = "PNG") -> bytes:
    rng = np.random.default_rng([number, len(name)])
    pixels = np.array(COLOURS[name]) + rng.integers(-30, 30, (side, side + number % 3, 3))
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, kind)
    return content.getvalue()


def write_folder(root: Path, train: int = 8, val: int = 4, side: int = 20) -> Path:
    for split, count, first in (("train", train, 0), ("val", val, 100)):
        for name in COLOURS:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                kind = ("PNG", "JPEG")[number % 2]
                file = root / split / name / f"{number}.{kind.lower()}"
                file.write_bytes(picture(name, first + number, side, kind))
    return root


def write_parquet(file: Path, train: int = 8, val: int = 4, **columns: object) -> Path:
    rows = [
        (picture(name, first + number), name, split)
        for split, count, first in (("train", train, 0), ("test", val, 100))
        for number in range(count)
        for name in COLOURS
    ]
    images, labels, splits = (list(column) for column in zip(*rows, strict=True))
    values = {"image": images, "label": labels, "split": splits} | columns
    table = pa.table({name: value for name, value in values.items() if value is not None})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file
