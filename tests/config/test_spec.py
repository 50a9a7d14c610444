import pytest
import yaml

from mcl_ray.config import recipes
from mcl_ray.config.overrides import field_paths, flat, parse, replace
from mcl_ray.config.spec import SPEC_VERSION, RunSpec
from mcl_ray.errors import SpecError
from searches.spec.sweep import SweepSpec


def changed(*overrides, recipe="cifar"):
    return replace(recipes.load(recipe), parse(RunSpec, overrides))


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_survives_its_file(name, tmp_path):
    spec = recipes.load(name)
    file = tmp_path / "spec.yaml"
    file.write_text(recipes.to_yaml(spec))
    assert recipes.load(str(file)) == spec
    assert recipes.load(str(file)).digest == spec.digest


def test_the_published_recipe():
    spec = recipes.cifar()
    losses, optimizer = spec.losses, spec.optimizer
    assert (losses.alpha, losses.beta, losses.gamma, losses.lam, losses.tau, losses.temperature) == (
        0.1,
        0.1,
        1,
        1,
        0.1,
        3,
    )
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.1, 0.9, True, 5e-4)
    assert (spec.schedule.kind, spec.schedule.epochs, spec.batch.size, spec.batch.per_class) == ("cosine", 300, 128, 2)
    assert (spec.augmentation.crop_padding, spec.augmentation.flip) == (4, True)


def test_every_field_can_be_overridden_by_its_path_and_its_short_name():
    spec = recipes.cifar()
    for path, value in flat(spec).items():
        assert (
            replace(spec, parse(RunSpec, [f"{path}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"]))
            == spec
        )
    assert changed("alpha=0.3").losses.alpha == 0.3
    assert changed("lr=1e-3").optimizer.lr == 1e-3
    assert changed("checksum=off").data.checksum == "off"
    assert changed("logit_distillation=off", "flip=false").augmentation.flip is False
    assert changed("networks=[resnet32,wrn_16_2]").cohort.peers == ("resnet32", "wrn_16_2")


def test_the_digest_tells_any_two_specs_apart():
    spec = recipes.cifar()
    others = [changed(o) for o in ("alpha=0.2", "seed=1", "cohort.size=4", "epochs=299", "precision=bf16", "tau=0.07")]
    assert len({spec.digest, *(other.digest for other in others)}) == len(others) + 1
    assert changed("alpha=0.1") == spec
    assert changed("alpha=0.1").digest == spec.digest


@pytest.mark.parametrize(("field", "earlier", "other"), [("compile", "off", "blocks"), ("peers", "apart", "stacked")])
def test_a_field_that_earlier_versions_lacked_is_in_the_digest_only_with_another_value(field, earlier, other):
    spec = recipes.cifar()
    assert changed(f"compute.{field}={earlier}").digest == spec.digest
    assert changed(f"compute.{field}={other}").digest != spec.digest
    texts = [recipes.to_yaml(one) for one in (spec, changed(f"compute.{field}={other}"))]
    assert [f"\n  {field}: " in text for text in texts] == [False, True]


def test_compiled_blocks_have_batch_statistics_of_their_own():
    with pytest.raises(SpecError, match="compute.compile=blocks requires compute.batch_statistics=local, but got"):
        changed("compute.compile=blocks", "batch_statistics=synchronised")


def test_which_cohorts_share_their_stem():
    assert not changed("cohort.size=2").cohort.shares_stem
    assert changed("cohort.size=3").cohort.shares_stem
    assert changed("cohort.size=4").cohort.shares_stem
    assert changed("cohort.size=2", "sharing=stem").cohort.shares_stem
    assert not changed("cohort.size=4", "sharing=none").cohort.shares_stem
    assert not changed("cohort.size=3", "networks=[resnet32,resnet32,wrn_16_2]").cohort.shares_stem


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("alpa=1", "unknown field 'alpa'; did you mean 'alpha'?"),
        ("size=4", "'size' matches batch.size, cohort.size"),
        ("alpha", "field=value, without spaces, but got 'alpha'"),
        ("alpha=[", "losses.alpha must be YAML"),
        ("alpha=-1", "losses.alpha must be greater than or equal to 0, but got -1"),
        ("alpha=.nan", "losses.alpha must be a finite number, but got nan"),
        ("alpha=nan", 'losses: alpha must be a number, but got "nan"'),
        ("lr=.inf", "optimizer.lr must be a finite number, but got inf"),
        ("tau=0", "losses.tau must be greater than 0, but got 0"),
        ("cohort.size=17", "cohort.size must be less than or equal to 16, but got 17"),
        ("cohort.size=0", "cohort.size must be greater than or equal to 1, but got 0"),
        ("networks=resnt32", "unknown network 'resnt32'; did you mean 'resnet32'?"),
        ("networks=[resnet32,resnet32,wrn_16_2]", "got 3 names (resnet32, resnet32, wrn_16_2) for cohort.size=2"),
        ("batch.size=33", "`batch.size % batch.per_class == 0` must hold, but got size=33, per_class=2"),
        ("momentum=0", "optimizer.nesterov=true requires optimizer.momentum > 0"),
        ("kind=multistep", "milestones=()"),
        ("milestones=[60,30]", "must be strictly increasing, but got (60, 30)"),
        ("checksum=md5:xyz", "data.checksum"),
        ("version=2", "version"),
        ("recipe=../../etc", "recipe"),
    ],
)
def test_bad_input_states_rule_and_values(override, rule):
    with pytest.raises(SpecError) as error:
        changed(override)
    assert rule in str(error.value)


def test_unlike_peers_cannot_share_a_stem():
    with pytest.raises(SpecError, match="sharing='stem' with networks=resnet32, wrn_16_2"):
        changed("networks=[resnet32,wrn_16_2]", "sharing=stem")


def test_a_field_given_twice_is_an_error():
    with pytest.raises(SpecError, match="losses.alpha cannot be given together with a value for all of losses"):
        changed("losses=3", "losses.alpha=1")
    with pytest.raises(SpecError, match="losses.alpha was given twice"):
        changed("alpha=1", "losses.alpha=2")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (f"version: {SPEC_VERSION + 1}\n", f"`version <= {SPEC_VERSION}` must hold for a spec file, but"),
        ("losses: {alhpa: 1}\n", "unknown field 'alhpa'; did you mean 'alpha'?"),
        ("epochs: 3\n", "epochs: unknown field 'epochs'; its place is schedule.epochs"),
        ("- 1\n", "must hold a mapping of fields to values, but holds list"),
        ("a: [\n", "must be YAML"),
        ("version: one\n", "has version one"),
    ],
)
def test_bad_files_are_refused(content, rule, tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text(content)
    with pytest.raises(SpecError) as error:
        recipes.load(str(file))
    assert rule in str(error.value)
    assert str(file) in str(error.value) or "unknown field" in str(error.value)


def test_names_that_do_not_exist():
    with pytest.raises(SpecError, match="unknown recipe 'cifr'; did you mean 'cifar'?"):
        recipes.load("cifr")
    with pytest.raises(SpecError, match="cannot read spec file nowhere.yaml"):
        recipes.load("nowhere.yaml")


@pytest.mark.parametrize("model", [RunSpec, SweepSpec])
def test_every_field_says_what_it_is(model):
    assert not [path for path, field in field_paths(model) if not field.description]
