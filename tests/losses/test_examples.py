"""The examples in the docstrings of the losses run and give what they show."""

import doctest

import pytest

from mcl_ray.losses import distill, streamed, terms


@pytest.mark.parametrize(
    ("module", "functions"),
    [
        (terms, {"contrastive_terms", "hard_contrast", "soft_vcl", "soft_icl"}),
        (streamed, {"streamed_losses"}),
        (distill, {"logit_distillation"}),
    ],
    ids=["terms", "streamed", "distill"],
)
def test_examples_in_docstrings(module, functions):
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert {test.name.rpartition(".")[2] for test in found} == functions
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
