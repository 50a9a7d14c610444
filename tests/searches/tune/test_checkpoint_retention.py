from mcl_ray.config.environment import Environment
from searches.tune.checkpoint_retention import CheckpointRetention
from tests.support.known_trials import sweep, trial
from tests.support.trial_events import failed, finished, info, result, stopped
from trainables.trial_job import TrialJob


def job_in(folder):
    asked = sweep(repeats=2)
    return TrialJob(
        sweep=folder,
        run=asked.run,
        runs_of=asked.trial_runs,
        repeats=2,
        objective=asked.objective,
        score=asked.scoring.score,
        costs=(),
        environment=Environment(),
    )


def kept(folder):
    return sorted({path.parent.name.split("-")[-2] for path in folder.glob("runs/*/checkpoints")})


def test_the_best_keep_their_checkpoints_and_the_others_their_records(tmp_path):
    job = job_in(tmp_path)
    for number in range(6):
        for repeat in range(2):
            (job.folder_of({"trial": f"{number:04d}"}, repeat) / "checkpoints").mkdir(parents=True)
    retention = CheckpointRetention(job, 2, [trial(0, scores=(1.0, 2.0, 50.0)), trial(1, "failed", ())])
    assert kept(tmp_path) == ["0000", "0001", "0002", "0003", "0004", "0005"]
    retention.on_trial_result(info(2), result(99.0, epoch=1))
    retention.on_trial_end(info(2), finished(60.0))
    assert kept(tmp_path) == ["0000", "0002", "0003", "0004", "0005"], "the failed one goes first"
    retention.on_trial_end(info(3), stopped(60.0))
    assert kept(tmp_path) == ["0000", "0002", "0004", "0005"], (
        "one that was stopped early goes before all that finished"
    )
    retention.on_trial_end(info(4), finished(60.0))
    assert kept(tmp_path) == ["0002", "0004", "0005"]
    retention.on_trial_end(info(5), failed())
    assert kept(tmp_path) == ["0002", "0004"]
    assert len(list(tmp_path.glob("runs/*"))) == 12


def test_a_trial_with_a_failed_seed_loses_its_checkpoints_before_others_that_ended_alike(tmp_path):
    """As in the ranking: a failed seed counts against its configuration, of an earlier process and of this one."""
    job = job_in(tmp_path)
    for number in range(5):
        (job.folder_of({"trial": f"{number:04d}"}, 0) / "checkpoints").mkdir(parents=True)
    retention = CheckpointRetention(job, 2, [trial(0, scores=(90.0,), n=1)])
    retention.on_trial_end(info(1), stopped(99.0, n=2))
    assert kept(tmp_path) == ["0000", "0001", "0002", "0003", "0004"]
    retention.on_trial_end(info(2), finished(95.0, n=1))
    assert kept(tmp_path) == ["0000", "0002", "0003", "0004"]
    retention.on_trial_end(info(3), finished(50.0, n=2))
    assert kept(tmp_path) == ["0002", "0003", "0004"]
    retention.on_trial_end(info(4), finished(60.0, n=2))
    assert kept(tmp_path) == ["0003", "0004"]


def test_without_a_bound_everything_stays(tmp_path):
    job = job_in(tmp_path)
    (job.folder_of({"trial": "0000"}, 0) / "checkpoints").mkdir(parents=True)
    CheckpointRetention(job, None, []).on_trial_end(info(0), failed())
    assert kept(tmp_path) == ["0000"]
