"""Keyword arguments: which are options, which are fields, and how values become the commands' overrides."""

from pathlib import Path

import numpy as np
import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from mcl_ray.object_store import Uri
from mcl_ray.sdk.options import assignments, split_keywords


def test_keywords_are_options_or_fields():
    options, fields = split_keywords({"results": "r", "data": "s3://bucket/d", "workers": 2, "threads": 1, "alpha": 3})
    assert options.execution.results == Path("r")
    assert options.execution.data == Uri("s3://bucket/d")
    assert options.execution.group == (2, 2)
    assert (options.threads, options.download, options.resume) == (1, False, False)
    assert fields == {"alpha": 3}


def test_values_are_those_that_the_commands_would_read():
    given = {
        "losses.alpha": np.float64(0.1),
        "schedule.milestones": (2, 3),
        "cohort.networks": ["resnet8", "wrn_16_2"],
        "batch.sampler": "balanced",
        "optimizer.weight_decay": 1e-05,
        "batch.per_class": None,
    }
    parsed = parse(RunSpec, assignments({"epochs": 2, "nesterov": True}, given))
    expected = {"schedule.epochs": 2, "optimizer.nesterov": True, "schedule.milestones": [2, 3]}
    assert parsed == {**given, **expected}
    assert isinstance(parsed["losses.alpha"], float)


def test_strings_and_models_are_taken_too():
    assert assignments({}, ["alpha=0.3"]) == ("alpha=0.3",)
    (given,) = assignments({"pretraining": recipes.digits()})
    assert RunSpec.model_validate(parse(RunSpec, [given])["pretraining"]) == recipes.digits()


def test_a_value_without_a_json_form_is_refused():
    with pytest.raises(SpecError, match="the value of alpha must be a number, .* or a mapping, but got <object"):
        assignments({"alpha": object()})
