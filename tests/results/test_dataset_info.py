import json

import pytest

from mcl_ray.errors import StoreError
from mcl_ray.results.dataset_info import IMAGES_FILE, DatasetInfo, read_dataset_info, write_dataset_info

IMAGES = DatasetInfo(
    source="folder",
    class_names=("Bär", 'a "quoted" one'),
    mean=(0.5, 0.4, 0.3),
    std=(0.1, 0.2, 1 / 3),
    image_shape=(3, 16, 16),
    counts={"train": 8, "test": 4},
)


def test_the_description_of_a_data_set_is_read_back_as_it_was_written(tmp_path):
    write_dataset_info(tmp_path, IMAGES)
    assert read_dataset_info(tmp_path) == IMAGES


def test_an_older_run_has_no_description(tmp_path):
    assert read_dataset_info(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": 3}', '{"image_shape": [1, 8]}', "\xff", "null"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / IMAGES_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(StoreError, match=r"must be complete, but .*images\.json is damaged"):
        read_dataset_info(tmp_path)


def test_a_changed_figure_is_damage_and_an_earlier_file_without_checksum_is_read(tmp_path):
    write_dataset_info(tmp_path, IMAGES)
    file = tmp_path / IMAGES_FILE
    content = file.read_text()
    file.write_text(content.replace("0.4,", "0.5,"))
    with pytest.raises(StoreError, match=r"images\.json is damaged: its checksum is that of another content"):
        read_dataset_info(tmp_path)
    file.write_text(json.dumps({name: value for name, value in json.loads(content).items() if name != "sha256"}))
    assert read_dataset_info(tmp_path) == IMAGES
