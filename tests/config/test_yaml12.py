"""YAML of spec files, overrides and records: YAML 1.2's numbers, keys given once, and equal specs written alike."""

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcl_ray.config import recipes, yaml12
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.errors import SpecError
from searches.spec import search_registry
from searches.spec.space import FloatRange

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("0123456789xoeE+-._:~<=nulyYTa "),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("01xn~.:", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("008", 8), ("-012", -12), ("0o17", 15), ("0x1F", 31), ("+7", 7), ("1e3", 1000.0), ("1.", 1.0),
        ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("1_0", "1_0"), ("0b11", "0b11"), ("2001-01-01", "2001-01-01"),
        ("off", "off"), ("y", "y"), ("=", "="), ("-.INF", -math.inf), ("~", None), ("<<", "<<"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    assert yaml12.load(text) == value
    assert yaml12.load(f"{{a: [{text}]}}") == {"a": [value]}
    assert type(yaml12.load(text)) is type(value)


@given(st.text("0123456789xoeEaAfFnNiItTrRuUyYlLsS+-._", min_size=1))
def test_a_word_is_read_as_a_text_that_is_no_word_alone(word):
    """A word does not pass through the parser; with a space behind it, it does."""
    assert _read(word) == _read(f"{word} ")


def _read(text):
    try:
        return repr(yaml12.load(text))
    except yaml.YAMLError:
        return "error"


@given(PLAIN)
def test_what_is_written_is_read_back(value):
    for written in (yaml12.dump(value), yaml12.inline(value)):
        assert json.dumps(yaml12.load(written)) == json.dumps(value)


@pytest.mark.parametrize(
    "text", ["{a: 1, a: 1}", "a: {b: [{c: 1, c: 2}]}", "{1: a, 0x1: b}", "{<<: {a: 1}, <<: {b: 1}}", "{'a': 1, a: 2}"]
)
def test_a_key_given_twice_is_an_error(text):
    with pytest.raises(yaml.YAMLError, match="is given twice"):
        yaml12.load(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        *((f"a: !!{tag} x", tag) for tag in ("bool", "int", "float", "binary", "timestamp", "omap", "pairs")),
        *((f"a: !!{tag} {{b: 1}}", tag) for tag in ("bool", "set", "omap", "python/dict")),
        ("a: !!bool yes", "'yes' is no bool"),
        ("!!map [1]", "a mapping is expected"),
        ("!!map x", "a mapping is expected"),
        ("&a [*a]", "must not contain itself"),
        ("a: &a {b: {c: *a}}", "must not contain itself"),
        ("[" * 51 + "]" * 51, "nested at most 50 deep"),
        ("a: &x0 [1]\n" + "".join(f"b{i}: &x{i + 1} [*x{i}]\n" for i in range(50)), "nested at most 50 deep"),
        ("[" * 10_000, "recursion"),
        ("a: &x0 [1]\n" + "".join(f"b{i}: &x{i + 1} [*x{i}, *x{i}]\n" for i in range(40)), "at most 100,000 values"),
    ],
)
def test_what_is_no_plain_data_or_too_much_of_it_is_an_error(text, rule):
    with pytest.raises(yaml.YAMLError, match=rule):
        yaml12.load(text)


def test_aliases_stand_for_their_values():
    assert yaml12.load("a: &a [1, 2]\nb: {c: *a, d: *a}") == {"a": [1, 2], "b": {"c": [1, 2], "d": [1, 2]}}


def test_merged_keys_are_replaced_by_own_ones():
    assert yaml12.load("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}")["y"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    "override", ["epochs=1:30", "lr=1_0", "lr='0.1'", "seed='7'", "milestones=['3']", "linear.features='1'", "lr=true"]
)
def test_text_is_no_number(override):
    with pytest.raises(SpecError, match=r"must be a number, but got|must be"):
        replace(recipes.digits(), parse(RunSpec, [override]))


def test_minus_zero_is_zero():
    specs = [RunSpec(losses=LossSpec(alpha=zero)) for zero in (0.0, -0.0, 0)]
    specs.append(replace(specs[0], parse(RunSpec, ["alpha=-0.0"])))
    specs.append(RunSpec.model_validate_json('{"losses": {"alpha": -0.0}}'))
    assert len({spec.digest for spec in specs}) == 1
    assert all(spec == specs[0] for spec in specs)
    assert math.copysign(1, FloatRange(low=-0.0, high=1).low) == 1


def spec_of(text, tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    return recipes.load(str(file))


def test_a_file_is_on_top_of_the_recipe_that_it_names(tmp_path):
    assert spec_of("recipe: digits", tmp_path) == recipes.digits()
    changed = spec_of("recipe: digits\nschedule: {epochs: 3}\nseed: 7", tmp_path)
    assert changed == replace(recipes.digits(), {"schedule.epochs": 3, "seed": 7})
    assert spec_of("seed: 7", tmp_path) == RunSpec(seed=7)
    assert spec_of("recipe: custom", tmp_path) == RunSpec()
    with pytest.raises(SpecError, match="unknown recipe 'digts'; did you mean 'digits'"):
        spec_of("recipe: digts\nseed: 7", tmp_path)
    mine = replace(recipes.digits(), {"recipe": "mine"})
    assert spec_of(recipes.to_yaml(mine), tmp_path) == mine, "a complete spec may have any label"


def test_the_run_of_a_search_file_is_on_top_of_its_recipe(tmp_path):
    def run_of(run):
        file = tmp_path / "search.yaml"
        file.write_text(f"run: {run}\nspace: {{lr: {{kind: float, low: 0.01, high: 0.1}}}}\ntrials: 2")
        return search_registry.load(str(file)).run

    held_out = {"data.validation_fraction": search_registry.HELD_OUT, "evaluation.test": "never"}
    assert run_of("digits") == replace(recipes.digits(), held_out)
    assert run_of("{recipe: digits, data: {validation_fraction: 0.3}, seed: 5}") == replace(
        recipes.digits(), held_out | {"data.validation_fraction": 0.3, "seed": 5}
    )
    with pytest.raises(SpecError, match="unknown recipe 'digts'"):
        run_of("digts")


def test_errors_of_a_file_show_no_more_than_can_be_read(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("run: digits\ntrials: 2")
    with pytest.raises(SpecError, match="space must be given, but got run, trials$"):
        search_registry.load(str(file))
    with pytest.raises(SpecError, match="seed must be a valid integer, but got .{200}…$"):
        spec_of(f"seed: {list(range(1000))}", tmp_path)
