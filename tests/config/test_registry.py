"""The registry of parts by name: what it holds, and which names it refuses."""

import pytest

from mcl_ray.config.methods import METHODS
from mcl_ray.config.registry import DATASETS, NETWORKS, Registry, imported
from mcl_ray.errors import SpecError


def registry():
    return Registry("shape", {"circle": 1, "square": 2})


def test_built_in_parts_come_first_and_have_no_module():
    known = registry()
    known.add("arc", 3, "plugin")
    assert list(known) == ["circle", "square", "arc"]
    assert dict(known) == {"circle": 1, "square": 2, "arc": 3}
    assert (known.module_of("arc"), known.module_of("circle"), known.module_of("line")) == ("plugin", None, None)


def test_a_module_may_replace_its_own_part_and_no_other():
    known = registry()
    known.add("arc", 3, "plugin")
    known.add("arc", 4, "plugin")
    assert known["arc"] == 4
    with pytest.raises(SpecError, match="name of a shape must be free, but 'arc' of other is registered by plugin"):
        known.add("arc", 5, "other")
    with pytest.raises(SpecError, match="'circle' of other is registered by mcl_ray"):
        known.add("circle", 5, "other")
    assert (known["arc"], known["circle"]) == (4, 1)


@pytest.mark.parametrize("name", ["", "my-net", "a.b", "ü", "a" * 41, "../etc"])
def test_a_name_has_letters_digits_and_underscores(name):
    with pytest.raises(SpecError, match="must have 1 to 40 letters, digits and underscores, but got "):
        registry().add(name, 3, "plugin")


@pytest.mark.parametrize("entry", [*NETWORKS.values(), *METHODS.values()])
def test_what_is_built_in_is_where_its_entry_says(entry):
    assert callable(imported(entry.builder))


def test_every_source_of_data_but_npz_has_a_size_for_estimates():
    assert {name for name, entry in DATASETS.items() if entry.size is None} == {"npz"}
