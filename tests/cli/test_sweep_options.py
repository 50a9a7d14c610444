"""Every option of the `sweep` commands, each in a fresh process with an empty environment; one starts its own Ray."""

import json

import optuna
import pytest

from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.errors import TrainingError
from mcl_ray.results.store import RunWriter, read_epochs, read_runs, read_sweeps
from searches.tune.optuna_exporter import open_storage
from tests.support.empty_environment import run_command
from tests.support.pictures import write_folder
from tests.support.running_command import ALONE

TINY = (
    "trials=1",
    "epochs=1",
    "cohort.size=1",
    "space.cohort.size=null",
    "scheduler.kind=none",
    "keep_checkpoints=1",
    *ALONE,
)
TWO_PEERS = tuple(field for field in TINY if field != "cohort.size=1")
WITHOUT_LABELS = (
    *("networks=resnet8", "image_size=16", "batch.size=6", "queue.keys=12", "neighbours=3"),
    *("run.schedule.kind=cosine", "run.schedule.milestones=[]", "validation_fraction=0.25"),
)
ON_CPUS = ("--device", "cpu")


@pytest.fixture
def run(tmp_path):
    """Run a command that succeeds, and return its output."""

    def run_one(*words, ray=None):
        done = run_command(tmp_path, *words, ray=ray)
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in done.stdout
        return done.stdout

    return run_one


def sweeps(folder):
    return read_sweeps(folder / "results").to_pylist()


@pytest.mark.slow
def test_a_study_in_a_database_of_ones_own(run, shared_ray, tmp_path):
    url = f"sqlite:///{tmp_path / 'own.db'}"
    run("sweep", "digits", *TINY, *ON_CPUS, f"study={url}", ray=shared_ray)
    (sweep,) = sweeps(tmp_path)
    study = optuna.load_study(study_name=sweep["sweep_id"], storage=open_storage(url))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]
    assert (sweep["state"], json.loads(sweep["spec"])["study"]) == ("finished", url)
    assert run("sweep", "--resume", "latest").startswith("nothing left to do: ")


@pytest.mark.slow
def test_extend_then_a_warm_start_from_it(run, shared_ray, tmp_path):
    run("sweep", "digits", *TINY, *ON_CPUS, ray=shared_ray)
    run("sweep", "extend", "latest", "--trials", "1", *ON_CPUS, ray=shared_ray)
    (sweep,) = sweeps(tmp_path)
    assert (sweep["state"], sweep["trials_planned"]) == ("finished", 2)
    warm = ("sampler.seed=1", f"warm_start=[{sweep['sweep_id']}]")
    run("sweep", "digits", *TINY, *ON_CPUS, *warm, ray=shared_ray)
    assert [one["state"] for one in sweeps(tmp_path)] == ["finished"] * 2


@pytest.mark.slow
def test_retry_of_a_failed_trial(run, shared_ray, tmp_path):
    space = "space={lr: {kind: choice, values: [0.05, 1.0e+30]}}"
    grid = ("sampler.kind=grid", "trials=null", space, *TINY[1:2], "cohort.size=1", "scheduler.kind=none", *ALONE)
    run("sweep", "digits", *grid, *ON_CPUS, ray=shared_ray)
    attempts = {row["run_id"]: row["attempt"] for row in failed(tmp_path)}
    assert len(attempts) == 1
    output = run("sweep", "retry", "latest", "--failed", *ON_CPUS, ray=shared_ray)
    assert "trying 1 failed trials of digits-" in output
    assert all(row["attempt"] > attempts[row["run_id"]] for row in failed(tmp_path))


@pytest.mark.slow
def test_retry_of_failed_seeds_of_a_configuration_that_has_a_score(run, shared_ray, tmp_path):
    """One of the trial's own, and one of the confirmation's."""
    seeds = ("repeats=3", "confirm.configurations=1", "confirm.seeds=4", "baseline={}")
    run("sweep", "digits", *(field for field in TINY if field not in ALONE), *seeds, *ON_CPUS, ray=shared_ray)
    (sweep,) = sweeps(tmp_path)
    folder = tmp_path / "results" / "sweeps" / sweep["sweep_id"]
    broken = [folder / "runs" / f"{folder.name}-0000-r{repeat}" for repeat in (1, 3)]
    for path in broken:
        RunWriter.amend(path).finish("failed", TrainingError("its loss was not finite"))
    attempts = {row["run_id"]: row["attempt"] for row in failed(tmp_path)}
    assert len(attempts) == 2
    assert [row.n for row in rank_sweep(folder).rows] == [0], "half of its seeds failed"
    output = run("sweep", "retry", "latest", "--failed", *ON_CPUS, ray=shared_ray)
    assert f"trying 2 failed seeds of {folder.name} again" in output
    runs = {row["run_id"]: row for row in read_runs(folder).to_pylist()}
    assert {row["state"] for row in runs.values()} == {"finished"}
    assert all(runs[run_id]["attempt"] > attempt for run_id, attempt in attempts.items())
    assert [row.n for row in rank_sweep(folder).rows] == [4]
    assert sweeps(tmp_path)[0]["state"] == "finished"


def failed(folder):
    return [row for row in read_runs(folder / "results").to_pylist() if row["state"] == "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", ["data", "cohort"])
def test_workers_that_share_each_trial_of_peers_without_labels(run, shared_ray, tmp_path, parallelism):
    group = ("--workers", "2", "--parallelism", parallelism, "--cpus-per-worker", "1", "--readers", "0")
    data = ("--data", str(write_folder(tmp_path / "pictures")))
    output = run("sweep", "moco", *TWO_PEERS, *WITHOUT_LABELS, *ON_CPUS, *group, *data, ray=shared_ray)
    assert "1 trials at once, of 2 workers" in output
    (sweep,) = sweeps(tmp_path)
    (trained,) = read_runs(tmp_path / "results").to_pylist()
    assert (sweep["state"], sweep["best_run_id"]) == ("finished", trained["run_id"])
    of_batch = "" if parallelism == "data" else "1 to a batch, "
    assert trained["hardware"].startswith(f"2 workers, {of_batch}each on ")
    metrics = {row["metric"] for row in read_epochs(tmp_path / "results").to_pylist() if row["split"] != "train"}
    assert metrics == {"knn_top1", "knn_top5", "knn_agreement"}


@pytest.mark.slow
def test_a_ray_of_its_own_with_a_dashboard_and_shares_of_no_gpu(run):
    assert "Ray dashboard: http://" in run("sweep", "digits", *TINY, "--gpus-per-worker", "0")


@pytest.mark.slow
def test_a_table_of_one_row(run, shared_ray, tmp_path):
    run("sweep", "table", "digits", "rows=[resnet8_baseline]", "epochs=1", "repeats=1", *ON_CPUS, ray=shared_ray)
    assert [one["state"] for one in sweeps(tmp_path)] == ["finished"]
    assert run("sweep", "table", "--resume", "latest").startswith("nothing left to do: ")


@pytest.mark.slow
def test_a_dry_run_writes_nothing(run, tmp_path):
    assert "# steps in all" in run("sweep", "digits", *TINY, "--dry-run", "--results", "elsewhere", "--data", "none")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_an_address_where_no_cluster_answers(tmp_path):
    done = run_command(tmp_path, "sweep", "digits", *TINY, "--address", "nowhere")
    said = [line for line in done.stdout.splitlines() if not line.endswith("is not searched")]
    assert (done.returncode, len(said)) == (2, 2), done.stdout
    assert said[-1].startswith("error: a cluster's address")
