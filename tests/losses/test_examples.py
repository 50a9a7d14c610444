"""The docstrings of losses and contrast sets: paper, equation, shapes, and an example that gives what it shows."""

import ast
import doctest
import inspect
import re
from importlib import import_module
from pkgutil import iter_modules

import pytest

from mcl_ray import contrast, losses
from mcl_ray.methods.method import cross_entropy

PARTS = [r"arXiv\s+\d{4}\.\d{5}", r"(?<=\n\n) {4}\S", r"^Shape:$", r"^Example:$"]
"""Paper, equation (an indented paragraph), shapes and example, in this order."""
HELPERS = {"diagonal", "with_gradient", "extra_terms"}
"""Operations on tensors, and terms of plugins, which are in no paper."""
RESULTS = {"Streamed", "ContrastSlots"}
"""What others return: a docstring for each field."""


def public_parts():
    """Yield every public function and class of the two packages, and the cross-entropy, which the methods share."""
    for package in (losses, contrast):
        for found in iter_modules(package.__path__, f"{package.__name__}."):
            module = import_module(found.name)
            for node in ast.parse(inspect.getsource(module)).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    yield getattr(module, node.name)
    yield cross_entropy


PAGES = [part for part in public_parts() if part.__name__ not in RESULTS]


def test_these_are_all():
    assert {part.__name__ for part in PAGES} == HELPERS | {
        *("contrastive_terms", "hard_contrast", "soft_vcl", "soft_icl", "cross_entropy", "logit_distillation"),
        *("streamed_losses", "ContrastGrid", "in_batch_grid", "SlotSampler", "MemoryBank", "gathered_products"),
        "KeyQueue",
    }


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("part", PAGES, ids=lambda part: part.__name__)
def test_the_example_gives_what_it_shows(part):
    found = doctest.DocTestFinder(recurse=False).find(part, part.__name__, globs=vars(import_module(part.__module__)))
    (test,) = found
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("part", PAGES, ids=lambda part: part.__name__)
def test_a_reader_finds_paper_equation_shapes_and_example_in_this_order(part):
    text, places = inspect.getdoc(part), []
    for pattern in PARTS[2:] if part.__name__ in HELPERS else PARTS:
        found = re.search(pattern, text, re.MULTILINE)
        assert found, pattern
        places.append(found.start())
    assert places == sorted(places)
