"""Plugins of a spec: when they are imported, what is checked before and after, and what is recorded."""

import hashlib
import sys

import pytest

from mcl_ray.config import plugins, recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.part_modules import with_plugins
from mcl_ray.config.plugins import are_imported, import_plugins, plugin_records
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from mcl_ray.pipeline import import_named_plugins, stages
from searches.spec import search_registry

pytestmark = pytest.mark.usefixtures("own_registries")

NETWORK = "from mcl_ray import register\n@register.network('{name}')\ndef build(num_classes, in_channels): ...\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module where Python finds it; the process forgets it afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_imported", {*plugins._imported})
    written = []

    def write(name, text):
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        written.append(name)
        return file

    yield write
    for name in written:
        sys.modules.pop(name, None)


def changed(*overrides):
    return replace(recipes.digits(), parse(RunSpec, overrides))


def test_a_spec_is_read_without_its_plugins_and_checked_with_them(module):
    module("of_networks", NETWORK.format(name="mine"))
    spec = changed("plugins=of_networks", "networks=mine")
    assert spec.plugins == ("of_networks",)
    assert "of_networks" not in sys.modules, "reading a spec runs no code"
    with pytest.raises(SpecError, match="unknown network 'mine'"):
        changed("networks=mine")
    assert changed("plugins=of_networks", "networks=yours", "method=theirs").method == "theirs", "as long as unknown"
    import_plugins(spec.plugins)
    assert changed("plugins=of_networks", "networks=mine") == spec
    with pytest.raises(SpecError, match="unknown network 'yours'"):
        changed("plugins=of_networks", "networks=yours")


def test_plugins_are_part_of_a_spec_only_where_there_are_any():
    assert "plugins" not in recipes.digits().model_dump()
    assert changed("plugins=[]").digest == recipes.digits().digest != changed("plugins=json").digest
    assert changed("plugins=[json,os.path]").plugins == ("json", "os.path")


@pytest.mark.parametrize("name", ["../evil", "a b", "a.", "1a", "a-b", "''"])
def test_a_plugin_is_the_name_of_a_module(name):
    with pytest.raises(SpecError, match="plugins.0 "):
        changed(f"plugins=[{name}]")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "ModuleNotFoundError: No module named 'broken'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def\n", "SyntaxError: invalid syntax"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(module, text, reason):
    if text is not None:
        module("broken", text)
    with pytest.raises(SpecError, match="must be a module that Python can import, but broken raises") as error:
        import_plugins(["broken"])
    assert reason in str(error.value)
    assert not are_imported(["broken"])


def test_a_name_that_is_taken_is_an_error_of_the_spec(module):
    module("thief", NETWORK.format(name="resnet8"))
    with pytest.raises(SpecError, match="name of a network must be free, but 'resnet8' of thief is registered by mcl_"):
        import_plugins(["thief"])


def test_the_module_that_registered_a_part_is_added(module):
    module("of_networks", NETWORK.format(name="mine"))
    module("package.inner", NETWORK.format(name="inner"))
    import_plugins(["of_networks", "package.inner"])
    assert with_plugins(changed("networks=mine"), ["mine"]).plugins == ("of_networks",)
    spec = changed("networks=[mine,inner]", "plugins=package")
    assert with_plugins(spec, spec.model_dump()).plugins == ("package", "of_networks"), "package has package.inner"
    (stage,) = stages("digits", ["networks=[inner,resnet8]"])
    assert stage.resolved(None)[0].plugins == ("package.inner",)
    with_searched = search_registry.load("digits").with_overrides(
        ["plugins=of_networks", "space.networks={kind: choice, values: [resnet8, inner]}"]
    )
    assert with_searched.with_named_plugins().run.plugins == ("of_networks", "package.inner")
    assert with_plugins(recipes.digits(), recipes.digits().model_dump()).plugins == ()


def test_the_plugins_of_a_file_and_of_overrides_are_imported(module, tmp_path):
    module("of_file", NETWORK.format(name="filed"))
    module("of_override", NETWORK.format(name="given"))
    (tmp_path / "spec.yaml").write_text("{recipe: digits, plugins: [of_file], cohort: {networks: filed}}")
    import_named_plugins(str(tmp_path / "spec.yaml"), ["plugins = of_override", "networks=given"])
    assert are_imported(["of_file", "of_override"])


def test_no_trial_has_plugins_of_its_own():
    with pytest.raises(SpecError, match="all trials must have the same plugins"):
        search_registry.load("digits").with_overrides(["space.plugins={kind: choice, values: [[os], [json]]}"])


def test_a_record_has_the_distribution_or_the_checksum(module):
    file = module("of_networks", NETWORK.format(name="mine"))
    assert plugin_records(["of_networks"]) == [], "it imports nothing"
    import_plugins(["of_networks", "pytest"])
    own, installed = plugin_records(["of_networks", "pytest"])
    assert own.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (own.distribution, own.version) == (None, None)
    assert (installed.module, installed.distribution, installed.version) == ("pytest", "pytest", pytest.__version__)


def install(folder, module, version="1.2.3"):
    """Lay a distribution with an entry point into a folder, as an installer does."""
    info = folder / f"of_{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: of-{module}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nany = {module}\n")


@pytest.fixture
def installed(tmp_path, module):
    """Install a distribution with a plugin, which the process forgets afterwards."""
    module("installed_networks", NETWORK.format(name="installed"))
    install(tmp_path, "installed_networks")
    plugins.installed_plugins.cache_clear()
    yield
    plugins.installed_plugins.cache_clear()


def test_an_installed_plugin_is_imported_when_its_name_is_used_and_not_before(installed):
    changed("networks=[resnet8,resnet20]")
    assert "installed_networks" not in sys.modules
    (stage,) = stages("digits", ["networks=installed"])
    spec, _ = stage.resolved(None)
    assert spec.plugins == ("installed_networks",), "so that a reader without it knows whose it was"
    (record,) = plugin_records(spec.plugins)
    assert (record.distribution, record.version) == ("of-installed_networks", "1.2.3")


def test_an_installed_plugin_that_cannot_be_imported_is_named(installed, module):
    module("installed_networks", "1 / 0\n")
    with pytest.raises(SpecError, match="but installed_networks raises ZeroDivisionError"):
        changed("networks=instaled")
    assert changed("networks=resnet20").cohort.networks == ("resnet20",), "what is built in needs no plugin"
