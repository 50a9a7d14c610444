from mcl_ray.config.environment import Environment
from searches.tune.checkpoint_retention import CheckpointRetention
from tests.support.known_trials import sweep, trial
from trainables.trial_job import TrialJob


class TuneTrial:
    """What a listener is given of Tune's trial."""

    def __init__(self, number):
        self.config = {"trial": f"{number:04d}"}


def tell(retention, event, number, **result):
    retention(event, TuneTrial(number), result)


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
    retention = CheckpointRetention(job, 2, 3, [trial(0, scores=(1.0, 2.0, 50.0)), trial(1, "failed", ())])
    assert kept(tmp_path) == ["0000", "0001", "0002", "0003", "0004", "0005"]
    tell(retention, "reported", 2, epoch=1, score=99.0)
    tell(retention, "completed", 2, epoch=3, score=60.0)
    assert kept(tmp_path) == ["0000", "0002", "0003", "0004", "0005"], "the failed one goes first"
    tell(retention, "completed", 3, epoch=1, score=60.0)
    assert kept(tmp_path) == ["0002", "0003", "0004", "0005"]
    tell(retention, "completed", 4, epoch=3, score=60.0)
    assert kept(tmp_path) == ["0002", "0004", "0005"], "of equal scores, one that was stopped early goes first"
    tell(retention, "completed", 5, epoch=0, failed="why")
    assert kept(tmp_path) == ["0002", "0004"]
    assert len(list(tmp_path.glob("runs/*"))) == 12


def test_without_a_bound_everything_stays(tmp_path):
    job = job_in(tmp_path)
    (job.folder_of({"trial": "0000"}, 0) / "checkpoints").mkdir(parents=True)
    tell(CheckpointRetention(job, None, 3, []), "completed", 0, epoch=0, failed="why")
    assert kept(tmp_path) == ["0000"]
