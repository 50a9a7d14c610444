"""The front doors as processes: what they refuse and how, what they load for it, and what they never write."""

from __future__ import annotations

import gzip
import pickle
import re
import subprocess
from pathlib import Path

import pytest

from mcl_ray import __version__, recipes
from mcl_ray.cli import DOORS
from mcl_ray.overrides import field_paths, replace
from mcl_ray.recipes import RECIPES
from mcl_ray.results.reading import RUN_FILE
from mcl_ray.results.store import RunWriter, read_epochs, read_runs
from mcl_ray.spec import SPEC_VERSION, RunSpec
from searches import catalog, suites
from searches.catalog import SEARCHES
from searches.suites import SUITES
from tests.data.conftest import contents, tar_of
from tests.doors import HANGS_AFTER_S, SLOW_IMPORTS, TRAINING_IMPORTS, command, snapshot, surroundings, visit

ARCHIVE = "images.tar.gz"
MINE = ("--data", ARCHIVE, "checksum=off")
ONE_EPOCH = ("digits", "epochs=1", "cohort.size=1", "--threads", "1")


def write_archive(folder: Path, **changes: object) -> Path:
    """Twelve training images of three classes in the layout of CIFAR-100; `changes` replaces what its files hold."""
    members = {f"cifar-100-python/{name}": pickle.dumps(value, 2) for name, value in (contents() | changes).items()}
    path = folder / ARCHIVE
    path.write_bytes(tar_of(members))
    return path


class Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("owned", "w")


def refused(cwd: Path, *words: str) -> str:
    """The error line of a door that is called in `cwd`, known to be the only thing that happened."""
    before = snapshot(cwd)
    seen = visit(cwd, *words)
    assert seen.code == 2, seen.stderr
    assert seen.stdout == ""
    assert seen.stderr.startswith("error: ")
    assert seen.stderr.count("\n") == 1
    assert seen.modules.isdisjoint(TRAINING_IMPORTS)
    assert snapshot(cwd) == before
    return seen.stderr


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("train digts", "unknown recipe 'digts'; did you mean 'digits'?"),
        ("train digits networks=resnt8", "unknown network 'resnt8'; did you mean 'resnet8'?"),
        ("train digits losses.alhpa=1", "unknown field 'losses.alhpa'; did you mean 'losses.alpha'?"),
        ("train digits alpha=-1", "losses.alpha must be greater than or equal to 0, but got -1"),
        ("train digits alpha=.nan", "losses.alpha must be a finite number, but got nan"),
        ("train digits seed=2001-99-99", "the value of seed must be YAML, but got '2001-99-99'"),
        ("train digits networks=[resnet8,wrn_16_2] sharing=stem", "sharing='stem' with networks=resnet8, wrn_16_2"),
        ("train digits batch.size=42", "batch.size % batch.per_class == 0 must hold, but got size=42, per_class=4"),
        ("train digits batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("train digits batch.size=44 --dry-run", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("train cifar batch.size=202 --dry-run", "got size=202, per_class=2, classes=100"),
        ("train digits --alpha 0.3", "unknown option --alpha; a field is given without dashes, as alpha=VALUE"),
        ("train digits --alpha=0.3", "unknown option --alpha; a field is given without dashes, as alpha=0.3"),
        ("train digits --resultz=x", "the options are --address, --cpus-per-worker, --data, --device, --download"),
        ("train", "NAME requires an argument"),
        ("train digits alpha=true", "alpha must be a number, but got true"),
        ("train digits bank.negatives=3", "bank.negatives does something where method=supervised_bank, but method is"),
        ("train digits min_area=0.5", "does something where data.source=folder or parquet, but data.source is digits"),
        ("train moco crop_padding=2", "augmentation.crop_padding does something where data.source=cifar or digits"),
        ("train digits --download", "ships with scikit-learn, so that --download has nothing to fetch"),
        ("sweep digits run.evaluation.test=every_epoch", "run.evaluation.test=never must hold, but got every_epoch"),
        ("sweep digits queue.keys=9", "queue.keys does something where method=moco, but method is supervised"),
        ("train lincls", "needs --from with a run or a checkpoint, or linear.backbone=random, but got no --from"),
        ("train lincls --from nowhere", "there is neither nowhere nor results/runs/nowhere"),
        ("train moco+lincl", "unknown recipe 'lincl'; did you mean 'lincls'?"),
        ("train moco+digits", "freezes the networks of another run, but digits trains its own (method=supervised)"),
        ("train moco source=digits views=crop", "method=moco draws its views from images that are decoded"),
        ("train digits views=moco_v2", "augmentation.views=moco_v2 is of images that are decoded"),
        ("train moco alpha=0 beta=0 gamma=0 lam=0", "without labels only the contrastive terms teach"),
        (
            "train lincls linear.backbone=random features=2",
            "linear.features < cohort.size must hold, but got features=2",
        ),
        ("train lincls linear.backbone=random alpha=1", "method=linear trains classifiers alone"),
        ("sweep digits run.method=moco source=folder", "nearest neighbours (knn_top1, knn_top5) score method=moco"),
        ("train digits --device nonsense", "auto, cpu, cuda or one CUDA device as cuda:1, but got 'nonsense'"),
        ("train digits --threads 0", "threads >= 1 must hold, but got 0"),
        ("train digits --threads=-3", "threads >= 1 must hold, but got -3"),
        ("train digits --threads two", 'unable to convert "two" into int'),
        ("train digits --resume", "only a run that was begun can be resumed, but results/runs has none of spec"),
        ("train cifar", "no CIFAR-100 in data: put cifar-100-python.tar.gz or the unpacked folder"),
        ("train cifar --data nowhere", "no CIFAR-100 in nowhere"),
        ("train nowhere.yaml", "cannot read spec file nowhere.yaml: No such file"),
        ("report nowhere", "but nowhere is not a folder"),
        ("report .", "but . holds none of them"),
        ("report", "PATH requires an argument"),
        ("table cifr results", "unknown table 'cifr'; did you mean 'cifar'?"),
        ("table cifar", "a table is of one results folder or more, but none was given"),
        ("table cifar nowhere", "but nowhere is not a folder"),
        ("table cifar .", "but . holds none of them"),
        ("export", "RUN requires an argument"),
        ("export nowhere", "or by its id, but got nowhere; results holds none"),
        ("export .", "or by its id, but . holds none"),
        ("export nowhere --peer", "--peer"),
        ("export s3://", "a store has a bucket"),
        ("export nowhere --out s3://bucket/x", "--out is a folder of this machine, but got s3://bucket/x"),
        ("sweep digts", "unknown search 'digts'; did you mean 'digits'?"),
        ("sweep", "a search has a name or a file"),
        ("sweep digits trials=0", "trials must be greater than or equal to 1, but got 0"),
        ("sweep digits run.batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("sweep digits --trials 4", "a field is given without dashes, as trials=VALUE"),
        ("sweep digits --cpus-per-worker 0", "cpus_per_worker >= 1 must hold, but got 0"),
        ("sweep digits --device nonsense", "auto, cpu, cuda or one CUDA device as cuda:1, but got 'nonsense'"),
        ("sweep digits --cpus-per-worker 4096", "1 workers need 4096 CPU cores, but this machine has"),
        ("sweep digits --gpus-per-worker -1", "gpus_per_worker >= 0, and finite, must hold, but got -1.0"),
        ("sweep digits --gpus-per-worker nan", "gpus_per_worker >= 0, and finite, must hold, but got nan"),
        ("sweep cifar", "put cifar-100-python.tar.gz or the unpacked folder"),
        ("sweep --resume nowhere", "a sweep is named by its id, or is latest, but"),
        ("sweep extend nowhere --trials 1", "a sweep is named by its id, or is latest, but"),
        ("sweep retry latest --failed", "a sweep is named by its id, or is latest, but"),
        ("sweep extend latest --trials 0", '"0" for --trials. It must be 1 or more.'),
        ("sweep table digts", "unknown suite 'digts'; did you mean 'digits'?"),
        ("sweep table", "a suite has a name or a file"),
        ("sweep table digits rows=[resnet8_x3]", "unknown row 'resnet8_x3'; did you mean 'resnet8_x"),
        ("sweep table digits networks=resnt8", "unknown network 'resnt8'; did you mean 'resnet8'?"),
        ("sweep table digits batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("sweep table cifar", "put cifar-100-python.tar.gz or the unpacked folder"),
        ("sweep table --resume nowhere", "a sweep is named by its id, or is latest, but"),
        ("sweep digits --workers 4..1", "a number from 1, as 2, or a rising range, as 1..4, but got '4..1'"),
        ("sweep digits --workers 1..64", "workers <= batch.size / batch.per_class must hold, but got size=40"),
        ("sweep digits --workers 4096", "4096 workers need 4096 CPU cores, but this machine has"),
        ("sweep digits space.losses.alhpa.low=1", "alhpa"),
        ("sweep digits space.losses.alpha.low=20", "low"),
        ("sweep digits --device cpu --gpus-per-worker 1", "but got device=cpu, gpus_per_worker=1.0"),
        ("train digits --workers 0", "a number from 1, as 2, or a rising range, as 1..4, but got '0'"),
        ("train digits --workers 1..64", "workers <= batch.size / batch.per_class must hold, but got size=40"),
        ("train digits --workers 2 --threads 2", "are their --cpus-per-worker, but got --threads 2"),
        ("train digits --cpus-per-worker 2", "are of workers on Ray, but --workers is missing"),
        ("train digits --workers 2 --device cuda:0", "auto, cpu or cuda, but got cuda:0"),
        ("mcl trian digits", 'Did you mean "train"?'),
        ("mcl train digts", "unknown recipe 'digts'; did you mean 'digits'?"),
        ("mcl train digits --lr 1", "a field is given without dashes, as lr=VALUE"),
        ("mcl train", "NAME requires an argument"),
        ("mcl sweep digts", "unknown search 'digts'; did you mean 'digits'?"),
        ("mcl report nowhere", "but nowhere is not a folder"),
        ("mcl export nowhere", "or by its id, but got nowhere; results holds none"),
        ("mcl recipes more", "Unused Tokens: ['more']"),
    ],
)
def test_bad_input_is_one_line_before_anything_else_happens(words, rule, tmp_path):
    assert rule in refused(tmp_path, *words.split())


@pytest.mark.parametrize("name", ["two\nlines", "[bold]name[/bold]", "long " * 30 + "name"])
def test_what_a_user_called_a_file_is_neither_broken_up_nor_read_as_markup(name, tmp_path):
    assert f"no CIFAR-100 in {' '.join(name.split())}: put " in refused(tmp_path, "train", "cifar", "--data", name)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "cifar", "--data"),
        ("train", "cifar", "--dry-run", "--data"),
        ("train", "digits", "--results"),
        ("train", "digits", "--resume", "--results"),
        ("report",),
        ("export",),
    ],
)
def test_a_path_that_the_system_refuses(words, tmp_path):
    assert "File name too long" in refused(tmp_path, *words, "n" * 300)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "words", "rule"),
    [
        (cut_short, MINE, "images.tar.gz is damaged: it is cut short"),
        (cut_short, (*MINE, "--dry-run"), "images.tar.gz is damaged: it is cut short"),
        (lambda path: path.write_bytes(gzip.compress(b"no tar")), MINE, "images.tar.gz is damaged"),
        (lambda path: write_archive(path.parent, train=Hostile()), MINE, "images.tar.gz: train is refused"),
        (lambda path: write_archive(path.parent, meta=[Hostile()]), MINE, "images.tar.gz: meta is refused"),
        (None, (*MINE, "batch.size=8"), "got size=8, per_class=2, classes=3; per_class=4 fits"),
        (None, (*MINE, "batch.size=14"), "batch.size <= training images must hold, but got size=14, images=12"),
        (None, ("--data", ARCHIVE), "must have the checksum md5:eb9058c3a382ffc7106e4002c42a8d85"),
        (None, ("--data", ARCHIVE, f"checksum=md5:{'0' * 32}"), "accepts what is there"),
    ],
)
def test_an_archive_that_cannot_be_trained_on(change, words, rule, tmp_path):
    archive = write_archive(tmp_path)
    if change is not None:
        change(archive)
    assert rule in refused(tmp_path, "train", "cifar", *words)


@pytest.mark.parametrize("door", ["train", "sweep"])
@pytest.mark.parametrize("results", ["file", "file/below", "file/far/below"])
def test_results_that_cannot_be_written(door, results, tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = refused(tmp_path, door, "digits", "--results", results)
    assert "the results folder must be writable, but " in told
    assert f"{results} is not: " in told


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (f"version: {SPEC_VERSION + 1}\n".encode(), f"up to version {SPEC_VERSION}, but spec.yaml has version"),
        (bytes(range(256)), "spec file spec.yaml must be YAML"),
        (b"a: \0\n", "spec file spec.yaml must be YAML"),
        (b"[" * 100_000, "spec file spec.yaml must be YAML"),
        (b"- 1\n", "must hold fields and values, but holds list"),
        (b"losses: {alhpa: 1}\n", "losses.alhpa: unknown field 'alhpa'; did you mean 'alpha'?"),
        (None, "cannot read spec file spec.yaml: Is a directory"),
    ],
)
def test_spec_files_that_are_none(content, rule, tmp_path):
    file = tmp_path / "spec.yaml"
    file.mkdir() if content is None else file.write_bytes(content)
    assert rule in refused(tmp_path, "train", file.name)


def test_results_that_cannot_be_reported(tmp_path):
    folder = tmp_path / "results" / "runs"
    folder.mkdir(parents=True)
    assert "a report needs a run or a sweep, but results holds none yet" in refused(tmp_path, "report", "results")
    assert "a table needs runs, but results holds none yet" in refused(tmp_path, "table", "cifar", "results")
    spec = replace(recipes.digits(), {"schedule.epochs": 1})
    with RunWriter.create(tmp_path / "results", spec) as whole:
        whole.finish("finished")
    with RunWriter.create(tmp_path / "results", spec) as writer:
        writer.finish("finished")
    file = writer.folder / RUN_FILE
    file.write_bytes(file.read_bytes()[:-20])
    for path in ("results", f"results/runs/{writer.run_id}"):
        assert f"{writer.run_id}/{RUN_FILE} is damaged" in refused(tmp_path, "report", path)


def test_a_device_that_is_not_there_is_found_out_before_there_is_a_run(tmp_path):
    seen = visit(tmp_path, "train", *ONE_EPOCH, "--device", "cuda:99")
    assert (seen.code, seen.stdout) == (2, "")
    assert seen.stderr.startswith("error: the device must be one that this machine has, but got cuda:99 and ")
    assert list(snapshot(tmp_path)) == []


@pytest.mark.parametrize(
    "words",
    [
        *("train --help", "sweep --help", "report --help", "table --help", "export --help", "train --version"),
        *("mcl", "mcl --help", "mcl --version"),
        *(f"mcl {verb} --help" for verb in DOORS),
    ],
)
def test_help_loads_nothing_slow(words, tmp_path):
    seen = visit(tmp_path, *words.split())
    assert (seen.code, seen.stderr) == (0, "")
    assert seen.modules.isdisjoint(SLOW_IMPORTS | {"numpy"})
    assert snapshot(tmp_path) == {}
    if words.endswith("--version"):
        assert seen.stdout == f"{__version__}\n"
    else:
        assert seen.stdout.startswith("Usage: ")
        assert seen.stdout.splitlines()[2].strip().endswith(".")  # what it is for


@pytest.mark.parametrize(("verb", "known"), [("recipes", RECIPES), ("searches", SEARCHES), ("suites", SUITES)])
def test_what_is_known_by_name_is_listed_with_what_it_is(verb, known, tmp_path):
    seen = visit(tmp_path, "mcl", verb)
    assert (seen.code, seen.stderr) == (0, "")
    assert [" ".join(line.split()) for line in seen.stdout.splitlines()[1:]] == [
        f"{name} {function.__doc__}" for name, function in known.items()
    ]
    assert seen.modules.isdisjoint(SLOW_IMPORTS)


def test_every_field_is_listed_without_loading_anything_slow(tmp_path):
    seen = visit(tmp_path, "mcl", "fields")
    assert (seen.code, seen.stderr) == (0, "")
    listed = {line.split()[0] for line in seen.stdout.splitlines() if line.strip()}
    assert {path for path, _ in field_paths(RunSpec)} <= listed
    assert {"space", "trials", "scheduler.grace_epochs", "rows"} <= listed
    assert seen.modules.isdisjoint(SLOW_IMPORTS)


def resolved(tmp_path: Path, door: str, *overrides: str) -> Path:
    """What a dry run prints, as a file; the same door says the same of it."""
    first = visit(tmp_path, *door.split(), "digits", *overrides, "--dry-run")
    assert (first.code, first.stderr) == (0, "")
    assert first.modules.isdisjoint({"ray", "optuna"})
    assert snapshot(tmp_path) == {}
    for fact in ("runs", "steps", "multiply-adds", "memory", "disk"):
        assert f"\n# {fact} " in first.stdout
    assert "parameters" in first.stdout
    file = tmp_path / "resolved.yaml"
    file.write_text(first.stdout)
    assert visit(tmp_path, *door.split(), file.name, "--dry-run").stdout == first.stdout
    assert set(snapshot(tmp_path)) == {file.name}
    return file


def test_a_dry_run_prints_the_spec_file_that_would_do_the_same_and_writes_nothing(tmp_path):
    file = resolved(tmp_path, "train", "networks=[resnet8,wrn_16_2]", "epochs=3", "sampler=reference")
    values = {"cohort.networks": ("resnet8", "wrn_16_2"), "schedule.epochs": 3, "batch.sampler": "reference"}
    assert recipes.load(str(file)).digest == replace(recipes.digits(), values).digest
    assert "105 (35 an epoch)" in file.read_text()


def test_a_dry_run_of_a_search_prints_its_file_and_starts_no_ray(tmp_path):
    file = resolved(tmp_path, "sweep", "trials=3", "lr=1e-3", "space.gamma=null")
    sweep = catalog.load(str(file))
    assert (sweep.trials, sweep.run.optimizer.lr, "losses.gamma" in sweep.space) == (3, 1e-3, False)
    steps, per_epoch = re.search(r"^# steps +([\d,]+) \((\d+) an epoch\)", file.read_text(), re.MULTILINE).groups()
    assert int(steps.replace(",", "")) == sweep.run.schedule.epochs * int(per_epoch)


@pytest.mark.slow
def test_a_dry_run_of_a_suite_prints_its_file_and_starts_no_ray(tmp_path):
    file = resolved(tmp_path, "sweep table", "epochs=3", "rows=[resnet8_x2]")
    suite = suites.load(str(file))
    assert (list(suite.rows), suite.run.schedule.epochs) == (["resnet8_x2"], 3)


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    with subprocess.Popen(
        command("mcl", "recipes"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings()
    ) as process:
        process.stdout.close()
        assert process.wait(HANGS_AFTER_S) == 1
        assert process.stderr.read() == b""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which one run of one epoch was trained, and what its door said."""
    folder = tmp_path_factory.mktemp("finished")
    seen = visit(folder, "train", *ONE_EPOCH)
    assert (seen.code, seen.stderr) == (0, "")
    return folder, seen


def test_a_run_is_told_line_by_line_where_nobody_watches(finished):
    folder, seen = finished
    (run,) = read_runs(folder / "results").to_pylist()
    assert (run["state"], run["epochs_done"], run["attempt"]) == ("finished", 1, 1)
    assert seen.stdout.startswith(f"run {run['run_id']}, attempt 1, in results/runs/{run['run_id']}\nepoch 1/1  loss ")
    assert f"plots: python -m mcl_ray.report results/runs/{run['run_id']}\n" in seen.stdout
    assert "\x1b" not in seen.stdout
    assert "ray" not in seen.modules


@pytest.mark.slow
def test_a_second_run_gets_its_own_folder_and_a_finished_one_has_nothing_left(finished):
    folder, _ = finished
    before = snapshot(folder)
    (first,) = read_runs(folder / "results").to_pylist()
    resumed = visit(folder, "train", *ONE_EPOCH, "--resume")
    assert (resumed.code, resumed.stderr) == (0, "")
    assert resumed.stdout == f"nothing left to do: results/runs/{first['run_id']} is finished\n"
    assert snapshot(folder) == before

    assert visit(folder, "train", *ONE_EPOCH).code == 0
    after = snapshot(folder)
    assert {path: after.get(path) for path in before} == before
    runs = read_runs(folder / "results").to_pylist()
    assert [run["run_id"][-2:] for run in runs] == ["-1", "-2"]
    assert runs[0]["digest"] == runs[1]["digest"]


def test_a_report_of_a_run_prints_its_figures_and_writes_beside_it(finished):
    folder, _ = finished
    run_id = read_runs(folder / "results")["run_id"][0].as_py()
    seen = visit(folder, "report", f"results/runs/{run_id}")
    assert (seen.code, seen.stderr) == (0, "")
    assert f"{run_id}: finished, 1 of 1 epochs" in seen.stdout
    assert f"wrote results/runs/{run_id}/report/report.html\n" in seen.stdout
    assert (folder / "results" / "runs" / run_id / "report" / "report.html").exists()
    assert seen.modules.isdisjoint({"ray", "torch"})


def test_a_table_sets_a_run_that_was_not_trained_as_published_beside_nothing(finished):
    folder, _ = finished
    seen = visit(folder, "table", "cifar", "results", "results/runs")
    assert seen.code == 2, "a folder of runs is no results folder"
    seen = visit(folder, "table", "cifar", "results")
    assert (seen.code, seen.stderr) == (0, "")
    assert "70.91 ± 0.14" in seen.stdout
    assert "difference" not in seen.stdout
    assert "runs left out: 1 of a cohort or losses without a column" in seen.stdout
    assert seen.modules.isdisjoint({"ray", "torch", "optuna"})


def test_an_archive_of_ones_own_trains(tmp_path):
    write_archive(tmp_path)
    small = ("networks=resnet8", "batch.size=6", "epochs=1", "--threads", "1")
    seen = visit(tmp_path, "train", "cifar", *MINE, *small)
    assert (seen.code, seen.stderr) == (0, "")
    figures = read_epochs(tmp_path / "results").to_pylist()
    assert {row["split"] for row in figures} == {"train", "test"}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_is_on_record(tmp_path):
    seen = visit(tmp_path, "train", "digits", "lr=1e30", "epochs=2", "--threads", "1")
    assert seen.code == 1
    told = r"every loss must be finite, but cross_entropy = nan at step 2 of epoch 1"
    assert seen.stderr == f"error: {told}\n"
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert (run["state"], run["error_type"], run["error"]) == ("failed", "NonFiniteLossError", told)
    assert run["epochs_done"] == 0
