import pytest

from mcl_ray.errors import StoreError
from mcl_ray.results.dataset_info import IMAGES_FILE, DatasetInfo, read_images, write_images

IMAGES = DatasetInfo(
    source="folder",
    class_names=("Bär", 'a "quoted" one'),
    mean=(0.5, 0.4, 0.3),
    std=(0.1, 0.2, 1 / 3),
    image_shape=(3, 16, 16),
    counts={"train": 8, "test": 4},
)


def test_what_a_run_was_trained_on_is_read_back_as_it_was(tmp_path):
    write_images(tmp_path, IMAGES)
    assert read_images(tmp_path) == IMAGES


def test_a_run_from_before_there_was_a_record_has_none(tmp_path):
    assert read_images(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mean": 3}', '{"image_shape": [1, 8]}', "\xff", "null"])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / IMAGES_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(StoreError, match=r"must be whole, but .*images\.json is damaged"):
        read_images(tmp_path)
