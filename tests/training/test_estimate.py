from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.training.estimate import estimate_run

CLASSES, FEATURES, PEERS = 1000, 512, 2


def test_linear_classification_stores_a_momentum_of_its_classifiers_alone():
    spec = replace(recipes.lincls(), {"linear.backbone": "random"})
    found = estimate_run(spec, Environment())
    classifiers = PEERS * (FEATURES + 1) * CLASSES
    assert found.parameters > 10 * classifiers
    assert found.disk_bytes == Environment().checkpoints_kept * 4 * (found.parameters + classifiers)


def test_a_run_that_trains_everything_stores_weights_and_momentum():
    found = estimate_run(recipes.digits(), Environment())
    assert found.disk_bytes == Environment().checkpoints_kept * 8 * found.parameters
