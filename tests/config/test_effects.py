import pytest

from mcl_ray.config import recipes
from mcl_ray.config.effects import acts, deciding, partial
from mcl_ray.config.overrides import flat, replace

ALONE = {"cohort.size": 1}
WITHOUT_CONTRAST = {"losses.alpha": 0.0, "losses.beta": 0.0, "losses.gamma": 0.0, "losses.lam": 0.0}


NEEDS_PAIRS = {"losses.beta", "losses.gamma", "losses.lam", "losses.logit_distillation"}
NEEDS_CONTRAST = {"losses.tau", "losses.contrast", "cohort.head", "cohort.embedding_dim"}
TEMPERATURE = {"losses.temperature"}


@pytest.mark.parametrize(
    ("values", "without_effect"),
    [
        ({}, set()),
        (ALONE, NEEDS_PAIRS | TEMPERATURE),
        (WITHOUT_CONTRAST, NEEDS_CONTRAST | TEMPERATURE),
        (WITHOUT_CONTRAST | {"losses.logit_distillation": "all"}, NEEDS_CONTRAST),
        ({"losses.gamma": 0.0, "losses.lam": 0.0}, TEMPERATURE),
        (ALONE | {"losses.alpha": 0.0, "losses.beta": 0.5}, NEEDS_PAIRS | NEEDS_CONTRAST | TEMPERATURE),
    ],
)
def test_fields_whose_term_is_not_computed_have_no_effect(values, without_effect):
    run, supervised = replace(recipes.digits(), values), recipes.digits()
    always = {path for path in flat(supervised) if acts(supervised, path)}
    assert {path for path in always if not acts(run, path)} == without_effect
    assert all(deciding(path) & values.keys() for path in without_effect), "searches know what decides"
    assert {path for path in always if not acts(partial(supervised, values), path)} == without_effect


def test_a_bank_without_contrast_has_no_effect():
    assert acts(recipes.imagenet(), "bank.negatives")
    assert not acts(recipes.imagenet_baseline(), "bank.negatives")
    assert not acts(recipes.digits(), "bank.negatives")


def test_runs_that_train_alike_have_one_digest():
    def digest(**losses):
        return replace(recipes.digits(), ALONE | {f"losses.{name}": value for name, value in losses.items()}).digest

    assert digest(beta=0.3) == digest(gamma=0.7, lam=0.0, temperature=9.0) == digest()
    assert digest(tau=0.5) != digest()
    assert digest(alpha=0.0, tau=0.5) == digest(alpha=0.0) != digest()
    pair = recipes.digits()
    assert replace(pair, {"losses.beta": 0.3}).digest != pair.digest


def test_results_are_found_by_the_digest_of_earlier_versions_too():
    changed = replace(recipes.digits(), ALONE | {"losses.beta": 0.3})
    assert changed.digests == (changed.digest, "7b18f8099b"), "the second as commit c5bbcbf gives it"
    assert recipes.digits().digests == (recipes.digits().digest,)
