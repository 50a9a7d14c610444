"""Bad input of every kind: one line that states the rule, exit code 2, and nothing else that happened."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import SPEC_VERSION
from mcl_ray.results.reader import RUN_FILE
from mcl_ray.results.store import RunWriter
from tests.support.commands import refused, run_command, snapshot
from tests.support.data import archive_in

MINE = ("--data", "images.tar.gz", "checksum=off")


class Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("owned", "w")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("train digts", "unknown recipe 'digts'; did you mean 'digits'?"),
        ("train digits networks=resnt8", "unknown network 'resnt8'; did you mean 'resnet8'?"),
        ("train digits losses.alhpa=1", "unknown field 'losses.alhpa'; did you mean 'losses.alpha'?"),
        ("train digits alpha=-1", "losses.alpha must be greater than or equal to 0, but got -1"),
        ("train digits alpha=.nan", "losses.alpha must be a finite number, but got nan"),
        ("train digits seed=2001-99-99", 'seed must be a number, but got "2001-99-99"'),
        ("train digits epochs=1:30", 'schedule: epochs must be a number, but got "1:30"'),
        ("train digits networks=[resnet8,wrn_16_2] sharing=stem", "sharing='stem' with networks=resnet8, wrn_16_2"),
        ("train digits batch.size=42", "`batch.size % batch.per_class == 0` must hold, but got size=42, per_class=4"),
        ("train digits batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("train digits batch.size=44 --dry-run", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("train cifar batch.size=202 --dry-run", "got size=202, per_class=2, classes=100"),
        ("train digits --alpha 0.3", "unknown option --alpha; a field is given without dashes, as alpha=VALUE"),
        ("train digits --alpha=0.3", "unknown option --alpha; a field is given without dashes, as alpha=0.3"),
        ("train digits --resultz=x", "the options are --address, --cpus-per-worker, --data, --device, --download"),
        ("train", "NAME requires an argument"),
        ("train digits alpha=true", "alpha must be a number, but got true"),
        ("train digits bank.negatives=3", "bank.negatives requires method=supervised_bank, but got method="),
        ("train digits min_area=0.5", "requires data.source=folder or parquet, but got data.source=digits"),
        (
            "train moco crop_padding=2",
            "augmentation.crop_padding requires data.source=cifar, or another source of images in memory",
        ),
        ("train digits --download", "ships with scikit-learn, so that --download has nothing to fetch"),
        ("sweep digits run.evaluation.test=every_epoch", "run.evaluation.test=never must hold, but got every_epoch"),
        ("sweep digits queue.keys=9", "queue.keys requires method=moco, but got method=supervised"),
        ("train lincls", "needs --from with a run or a checkpoint, or linear.backbone=random, but got no --from"),
        ("train lincls --from nowhere", "but neither nowhere nor results/runs/nowhere exists"),
        ("train moco+lincl", "unknown recipe 'lincl'; did you mean 'lincls'?"),
        ("train moco+digits", "freezes the networks of another run, but digits trains its own (method=supervised)"),
        ("train moco+lincls lincls.batch.size=2000000", "got size=2000000, images=1281167"),
        ("train moco+lincls lincls.networks=resnet20", "of the stage before, so that cohort.networks cannot be given"),
        ("train moco source=digits views=crop", "method=moco requires data.source=folder or parquet"),
        ("train digits views=moco_v2", "augmentation.views=moco_v2 requires data.source=folder or parquet"),
        ("train moco alpha=0 beta=0 gamma=0 lam=0", "method=moco requires a contrastive weight > 0"),
        (
            "train lincls linear.backbone=random features=2",
            "`linear.features < cohort.size` must hold, but got features=2",
        ),
        ("train lincls linear.backbone=random alpha=1", "method=linear requires alpha=beta=gamma=lam=0"),
        (
            "sweep digits baseline={} run.method=moco source=folder",
            "nearest neighbours (knn_top1, knn_top5) score method=moco",
        ),
        ("train digits --device nonsense", "auto, cpu, cuda or one CUDA device as cuda:1, but got 'nonsense'"),
        ("train digits --threads 0", "`threads >= 1` must hold, but got 0"),
        ("train digits --threads=-3", "`threads >= 1` must hold, but got -3"),
        ("train digits --threads two", 'unable to convert "two" into int'),
        ("train digits --resume", "only a run that was started can be resumed, but results/runs has none of spec"),
        ("train cifar", "no CIFAR-100 in data: put cifar-100-python.tar.gz or the unpacked folder"),
        ("train cifar --data nowhere", "no CIFAR-100 in nowhere"),
        ("train nowhere.yaml", "cannot read spec file nowhere.yaml: No such file"),
        ("report nowhere", "but nowhere is not a folder"),
        ("report .", "but . holds none of them"),
        ("report", "PATH requires an argument"),
        ("table cifr results", "unknown table 'cifr'; did you mean 'cifar'?"),
        ("table cifar", "a table needs one results folder or more, but got none"),
        ("table cifar nowhere", "but nowhere is not a folder"),
        ("table cifar .", "but . holds none of them"),
        ("export", "RUN requires an argument"),
        ("export nowhere", "or by its id, but got nowhere; results holds none"),
        ("export .", "or by its id, but . is neither"),
        ("export nowhere --peer", "--peer"),
        ("export s3://", "must name a bucket"),
        ("export nowhere --out s3://bucket/x", "`--out` must be a local folder, but got s3://bucket/x"),
        ("sweep digts", "unknown search 'digts'; did you mean 'digits'?"),
        ("sweep", "a search has a name or a file"),
        ("sweep digits trials=0", "trials must be greater than or equal to 1, but got 0"),
        ("sweep digits run.batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("sweep digits --trials 4", "a field is given without dashes, as trials=VALUE"),
        ("train digits --pack 2", "`--pack` requires a sweep, whose trials share their steps, but got --pack 2"),
        ("sweep digits --pack eight", "`pack` must be off, auto or a number from 1, as 8, but got 'eight'"),
        ("sweep digits --pack 0", "`pack` must be off, auto or a number from 1, as 8, but got '0'"),
        ("sweep digits --pack 2 --workers 1", "`pack` requires trials of one process, but got pack=2 and workers=1"),
        ("sweep digits --cpus-per-worker 0", "`cpus_per_worker >= 1` must hold, but got 0"),
        ("sweep digits --device nonsense", "auto, cpu, cuda or one CUDA device as cuda:1, but got 'nonsense'"),
        ("sweep digits --cpus-per-worker 4096", "1 workers need 4096 CPU cores, but this machine has"),
        ("sweep digits --gpus-per-worker -1", "`0 <= gpus_per_worker < infinity` must hold, but got -1.0"),
        ("sweep digits --gpus-per-worker nan", "`0 <= gpus_per_worker < infinity` must hold, but got nan"),
        ("sweep cifar", "put cifar-100-python.tar.gz or the unpacked folder"),
        ("sweep --resume nowhere", "a sweep is named by its id or by `latest`, but got nowhere"),
        ("sweep extend nowhere --trials 1", "a sweep is named by its id or by `latest`, but got nowhere"),
        ("sweep retry latest --failed", "a sweep is named by its id or by `latest`, but got latest"),
        ("sweep extend latest --trials 0", '"0" for --trials. It must be 1 or more.'),
        ("sweep table digts", "unknown suite 'digts'; did you mean 'digits'?"),
        ("sweep table", "a suite has a name or a file"),
        ("sweep table digits rows=[resnet8_x3]", "unknown row 'resnet8_x3'; did you mean 'resnet8_x"),
        ("sweep table digits networks=resnt8", "unknown network 'resnt8'; did you mean 'resnet8'?"),
        ("sweep table moco lincls.alhpa=1", "unknown field 'alhpa'; did you mean 'alpha'?"),
        ("sweep table digits batch.size=44", "got size=44, per_class=4, classes=10; per_class=11 fits"),
        ("sweep table cifar", "put cifar-100-python.tar.gz or the unpacked folder"),
        ("sweep table --resume nowhere", "a sweep is named by its id or by `latest`, but got nowhere"),
        ("sweep digits --workers 4..1", "a number from 1, as 2, or a range, as 1..4, but got '4..1'"),
        ("sweep digits --workers 1..64", "`workers <= batch.size / batch.per_class` must hold, but got size=40"),
        ("sweep digits --workers 4096", "4096 workers need 4096 CPU cores, but this machine has"),
        ("sweep digits space.losses.alhpa.low=1", "alhpa"),
        ("sweep digits space.losses.alpha.low=20", "low"),
        ("sweep digits --device cpu --gpus-per-worker 1", "but got device=cpu, gpus_per_worker=1.0"),
        ("train digits --workers 0", "a number from 1, as 2, or a range, as 1..4, but got '0'"),
        ("train digits --workers 1..64", "`workers <= batch.size / batch.per_class` must hold, but got size=40"),
        (
            "train digits --parallelism cohort",
            "`parallelism` requires several workers of a run (`workers`, or torchrun), but got parallelism=cohort al",
        ),
        (
            "sweep digits --parallelism auto",
            "`parallelism` requires several workers of a run (`workers`, or torchrun), but got parallelism=auto alone",
        ),
        (
            "train digits --workers 2 --parallelism model",
            "`parallelism` must be data, cohort or auto, but got 'model'",
        ),
        (
            "train digits cohort.size=1 --workers 2 --parallelism cohort",
            "a number from 2 to `cohort.size` divides, but got workers=2, cohort.size=1",
        ),
        (
            "sweep digits --workers 1..3 --parallelism cohort",
            "a number from 2 to `cohort.size` divides, but got workers=3, cohort.size=2",
        ),
        (
            "train lincls linear.backbone=random --workers 2 --parallelism cohort",
            "`parallelism=cohort` requires a method that trains peers apart, but got method=linear",
        ),
        ("train digits --workers 2 --gpus-per-worker 0.5", "on one GPU, but got 0.5 for 2 workers"),
        (
            "train digits --workers 2 --threads 2",
            "`--threads` must not be given with workers on Ray, whose threads are `--cpus-per-worker`, but got 2",
        ),
        (
            "train digits --no-dashboard",
            "`--no-dashboard` requires `--workers` or `--address`, but got --no-dashboard alone",
        ),
        ("sweep digits --no-dashboard --address auto", "`--no-dashboard` requires a local Ray, but got --address auto"),
        (
            "train digits --cpus-per-worker 2",
            "`--cpus-per-worker` requires `--workers` or `--address`, but got --cpus-per-worker 2",
        ),
        ("train digits --workers 2 --device cuda:0", "auto, cpu or cuda, as Ray assigns the GPUs, but got cuda:0"),
        ("mcl trian digits", 'Did you mean "train"?'),
        ("mcl train digts", "unknown recipe 'digts'; did you mean 'digits'?"),
        ("mcl train digits --lr 1", "a field is given without dashes, as lr=VALUE"),
        ("mcl train", "NAME requires an argument"),
        ("mcl sweep digts", "unknown search 'digts'; did you mean 'digits'?"),
        ("mcl report nowhere", "but nowhere is not a folder"),
        ("mcl export nowhere", "or by its id, but got nowhere; results holds none"),
        ("mcl recipes more", "this command takes no further words, but got more"),
        ("train digits epochs = 1", "must have the form field=value, without spaces, but got 'epochs'"),
        ("train digits alpha=", "losses.alpha must be a valid number, but got null"),
        ("train digits milestones=10", "schedule.milestones must be a list, as [1, 2], but got 10"),
        ("sweep digits --resume", "--resume requires an argument: Resume this sweep, by its id or `latest`, instead"),
        ("sweep digits space.tau=0.1", "space.tau must be a mapping of fields, as {name: value}, but got 0.1"),
        ("sweep digits space.tau={low:1}", "space.tau must name its 'kind', but got {"),
        ("mcl submit train", "`name` is given for train, sweep, table, linear, and for them alone, but got kind=train"),
        ("mcl jobs --server 127.0.0.1:1", "must begin with http:// or https://, but got 127.0.0.1:1"),
        ("mcl serve --port 99999", "port must be less than or equal to 65535, but got '99999'"),
        ("mcl serve --address head:8265", "address: the dashboard's URL must begin with http:// or https://, but got"),
        ("mcl serve --host 0.0.0.0 --insecure-local", "`insecure_local` requires a loopback address, but got host="),
        ("mcl serve 8080", "this command takes no further words, but got 8080"),
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
        (lambda path: archive_in(path.parent, train=Hostile()), MINE, "images.tar.gz: train is refused"),
        (lambda path: archive_in(path.parent, meta=[Hostile()]), MINE, "images.tar.gz: meta is refused"),
        (None, (*MINE, "batch.size=8"), "got size=8, per_class=2, classes=3; per_class=4 fits"),
        (None, (*MINE, "batch.size=14"), "`batch.size <= training images` must hold, but got size=14, images=12"),
        (None, ("--data", "images.tar.gz"), "must have the checksum md5:eb9058c3a382ffc7106e4002c42a8d85"),
        (None, ("--data", "images.tar.gz", f"checksum=md5:{'0' * 32}"), "accepts this file"),
    ],
)
def test_an_archive_that_cannot_be_trained_on(change, words, rule, tmp_path):
    archive = archive_in(tmp_path)
    if change is not None:
        change(archive)
    assert rule in refused(tmp_path, "train", "cifar", *words)


@pytest.mark.parametrize("command", ["train", "sweep"])
@pytest.mark.parametrize("results", ["file", "file/below", "file/far/below"])
def test_results_that_cannot_be_written(command, results, tmp_path):
    (tmp_path / "file").write_text("in the way")
    reported = refused(tmp_path, command, "digits", "--results", results)
    assert "the results folder must be writable, but " in reported
    assert f"{results} is not: " in reported


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (
            f"version: {SPEC_VERSION + 1}\n".encode(),
            f"`version <= {SPEC_VERSION}` must hold for a spec file, but spec.yaml has version",
        ),
        (bytes(range(256)), "spec file spec.yaml must be YAML"),
        (b"a: \0\n", "spec file spec.yaml must be YAML"),
        (b"[" * 100_000, "spec file spec.yaml must be YAML"),
        (b"- 1\n", "must hold a mapping of fields to values, but holds list"),
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


@pytest.mark.slow
def test_a_device_that_is_not_there_is_found_out_before_there_is_a_run(tmp_path):
    seen = run_command(tmp_path, "train", "digits", "--device", "cuda:99")
    assert (seen.code, seen.stdout) == (2, "")
    assert seen.stderr.startswith("error: the device must be one that this machine has, but got cuda:99 and ")
    assert list(snapshot(tmp_path)) == []
