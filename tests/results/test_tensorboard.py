"""Event files as TensorBoard reads them: by name, record by record, forgetting from a restart on."""

import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.errors import StoreError
from mcl_ray.results.store import EpochRow
from mcl_ray.results.tensorboard import EventFile
from mcl_ray.training.run_recorder import hyperparameters


def write(file, epoch, top1):
    rows = [EpochRow("cohort", "train", "soft_vcl", 2.5), EpochRow("peer0", "validation", "top1", top1)]
    file.write(epoch, rows)


def events(file):
    content, at = file.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        record = content[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", content, at + 8) == (masked_crc32c(content[at : at + 8]),)
        assert struct.unpack_from("<I", content, at + 12 + length) == (masked_crc32c(record),)
        yield Event.FromString(record)
        at += 16 + length


def scalars(folder):
    """{tag: {step: value}} as TensorBoard shows them."""
    shown = {}
    for file in sorted(path for path in folder.iterdir() if "tfevents" in path.name):
        for event in events(file):
            if event.session_log.status == SessionLog.START:
                shown = {tag: {s: v for s, v in curve.items() if s < event.step} for tag, curve in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_an_epoch_is_on_the_disk_when_it_is_written(tmp_path):
    with EventFile(tmp_path) as file:
        write(file, 1, 40.0)
        write(file, 2, 50.0)
        assert scalars(tmp_path) == {"train/soft_vcl": {1: 2.5, 2: 2.5}, "validation/top1/peer0": {1: 40.0, 2: 50.0}}


def test_the_hyperparameters_of_a_run_are_beside_its_accuracies(tmp_path):
    spec = replace(recipes.digits(), {"losses.alpha": 0.25, "cohort.networks": ["resnet8", "resnet20"]})
    with EventFile(tmp_path, hyperparameters(spec)) as file:
        write(file, 1, 40.0)
        write(file, 2, 50.0)
    (path,) = tmp_path.iterdir()
    found = [value for event in events(path) for value in event.summary.value if value.tag.startswith("_hparams_/")]
    assert {value.metadata.plugin_data.plugin_name for value in found} == {"hparams"}
    experiment, session = (HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in found)
    assert [metric.name.tag for metric in experiment.experiment.metric_infos] == ["validation/top1/peer0"]
    shown = session.session_start_info.hparams
    assert shown["losses.alpha"].number_value == 0.25
    assert shown["cohort.networks"].string_value == "resnet8, resnet20"
    assert shown["optimizer.nesterov"].WhichOneof("kind") == "bool_value"
    assert "data.source" not in shown
    assert {info.name for info in experiment.experiment.hparam_infos} == set(shown)


def test_hyperparameters_without_an_effect_are_left_out():
    alone = replace(recipes.digits(), {"cohort.size": 1, "losses.alpha": 0.0, "losses.beta": 0.7})
    shown = {path.removeprefix("losses.") for path in hyperparameters(alone) if path.startswith("losses.")}
    assert shown == {"alpha"}
    pair = hyperparameters(replace(recipes.digits(), {"losses.beta": 0.7}))
    assert (pair["losses.beta"], "losses.tau" in pair) == (0.7, True)


def test_a_resumed_run_continues_in_a_file_of_its_own(tmp_path):
    killed = EventFile(tmp_path)
    for epoch in (1, 2, 3):
        write(killed, epoch, 10.0 * epoch)
    (first,) = tmp_path.iterdir()
    before = first.read_bytes()
    with EventFile(tmp_path) as resumed:
        write(resumed, 2, 20.0)
        assert scalars(tmp_path)["validation/top1/peer0"] == {1: 10.0, 2: 20.0}
        write(resumed, 3, 31.0)
    assert scalars(tmp_path)["validation/top1/peer0"] == {1: 10.0, 2: 20.0, 3: 31.0}
    assert first.read_bytes() == before
    killed.close()


def test_a_run_without_an_epoch_leaves_no_file(tmp_path):
    with EventFile(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="must be writable, but writing TensorBoard events in .*gone failed: No such"):
        write(EventFile(tmp_path / "gone"), 1, 0.0)


@pytest.mark.slow
def test_reading_results_does_not_load_it_and_training_does_before_it_begins():
    code = "import sys, mcl_ray.results.store, mcl_ray.results.tensorboard; sys.exit('tensorboardX' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys, pathlib; from mcl_ray.results.tensorboard import EventFile; EventFile(pathlib.Path());"
    check = "sys.exit('tensorboardX.proto.event_pb2' not in sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code} {check}"], check=True)
