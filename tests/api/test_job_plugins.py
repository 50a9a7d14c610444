"""Which plugins a job may name: the service decides by their names, and imports none."""

import sys

import pytest

from mcl_ray.errors import SpecError
from mcl_ray.jobs import specs
from mcl_ray.jobs.messages import JobRequest

OWN = {"plugins": ["this"], "networks": "own"}
"""A module of the standard library that nothing else imports: it prints a poem."""


def resolved(plugins, **request):
    return specs.resolve(JobRequest.model_validate(request), plugins)


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "train", "name": "digits", "overrides": OWN},
        {"kind": "sweep", "name": "digits", "overrides": OWN},
        {"kind": "table", "name": "digits", "overrides": OWN},
        {"kind": "table", "name": "moco", "overrides": {"then.plugins": ["this"]}},
        {"kind": "train", "name": "moco+lincls", "overrides": {"lincls.plugins": "this"}},
    ],
)
def test_a_job_names_only_plugins_that_the_service_allows(request_):
    with pytest.raises(SpecError, match="only modules that the service's setting `plugins` names, but got plugins=thi"):
        resolved(["json", "thi"], **request_)
    assert "this" in str(resolved(["json", "this"], **request_).spec)
    assert resolved(None, **request_) == resolved(["this"], **request_), "a driver asks nobody"
    assert "this" not in sys.modules


def test_a_module_below_an_allowed_one_is_allowed():
    request = {"kind": "train", "name": "digits", "overrides": {"plugins": "lab.networks", "networks": "own"}}
    assert resolved(["lab"], **request).spec["digits"]["plugins"] == ["lab.networks"]
    with pytest.raises(SpecError, match="got plugins=lab.networks"):
        resolved(["lab.data", "la"], **request)
