"""Setting a field without effect is an error; every field in the table of uses exists."""

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import field_paths
from mcl_ray.config.spec import RunSpec
from mcl_ray.config.unused_fields import USES, check_used
from mcl_ray.errors import SpecError

PATHS = [path for path, _ in field_paths(RunSpec)]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.when)
def test_every_use_is_of_fields_that_there_are(use):
    for field in use.fields:
        assert any(path.startswith(field) if field.endswith(".") else path == field for path in PATHS)
    assert use.when.partition("=")[0] in [*PATHS, "method"]


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_field_does_something_in_some_recipe(recipe):
    """A field is refused where it does nothing, and taken where it does."""
    run = recipes.load(recipe)
    for use in USES:
        for field in (path for path in PATHS if path.startswith(use.fields)):
            if use.holds(run):
                check_used(run, [field])
            else:
                with pytest.raises(SpecError, match=f"{field} requires"):
                    check_used(run, [field])


def test_the_recipes_leave_no_use_without_its_case():
    for use in USES:
        holds = {use.holds(recipes.load(name)) for name in recipes.RECIPES}
        assert holds == {True, False} or use.when == "data.source=parquet"
