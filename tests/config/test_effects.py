import pytest

from mcl_ray.config import recipes
from mcl_ray.config.effects import acts, decides, partial
from mcl_ray.config.overrides import flat, replace

ALONE = {"cohort.size": 1}
WITHOUT_CONTRAST = {"losses.alpha": 0.0, "losses.beta": 0.0, "losses.gamma": 0.0, "losses.lam": 0.0}


NEEDS_PAIRS = {"losses.beta", "losses.gamma", "losses.lam", "losses.logit_distillation", "cohort.sharing"}
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
    known = all(any(decides(parent, path) for parent in values) for path in without_effect)
    assert known, "searches know what decides"
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


@pytest.mark.parametrize(
    ("values", "field", "value"),
    [
        (ALONE, "cohort.sharing", "stem"),
        (ALONE, "losses.logit_distillation", "all"),
        (WITHOUT_CONTRAST, "cohort.embedding_dim", 64),
        (WITHOUT_CONTRAST, "cohort.head", "linear"),
        (WITHOUT_CONTRAST, "losses.tau", 0.3),
        ({}, "bank.negatives", 9),
        ({}, "queue.keys", 9),
        ({}, "linear.features", "mean"),
        ({}, "evaluation.neighbours", 3),
        ({}, "schedule.factor", 0.4),
        ({}, "data.orientation", "stored"),
        ({}, "data.image_column", "picture"),
        ({"batch.sampler": "shuffled"}, "batch.per_class", 4),
    ],
)
def test_a_digest_has_no_field_without_effect(values, field, value):
    run = replace(recipes.digits(), values)
    other = replace(run, {field: value})
    assert not acts(run, field)
    assert (other.digest, other.digests[-1] != run.digest) == (run.digest, True)
    acting = next(path for path in ("losses.alpha", "optimizer.lr") if acts(run, path))
    assert replace(run, {acting: 0.55}).digest != run.digest


def test_results_are_found_by_the_digest_of_earlier_versions_too():
    changed = replace(recipes.digits(), ALONE | {"losses.beta": 0.3})
    assert changed.digests == (changed.digest, "7b18f8099b"), "the second as commit c5bbcbf gives it"
    assert recipes.digits().digests == (recipes.digits().digest,)
