import pickle
from pathlib import Path

import pytest
import torch

from mcl_ray.cohort import build_cohort
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import CohortSpec
from mcl_ray.errors import CheckpointError
from mcl_ray.interop import load_published, network_names, published_names, read_published, to_published


def cohort_of(networks=("resnet8",), size=1, sharing="reference", seed=0):
    torch.manual_seed(seed)
    spec = CohortSpec(networks=networks, size=size, sharing=sharing, embedding_dim=6)
    return build_cohort(spec, num_classes=10, in_channels=1)


def detached(cohort):
    return {name: tensor.clone() for name, tensor in to_published(cohort).items()}


@pytest.mark.parametrize("sharing", ["none", "stem"])
@pytest.mark.parametrize(("network", "size"), [(name, 2) for name in NETWORKS] + [("resnet8", 1), ("resnet8", 16)])
def test_every_tensor_has_one_published_name(network, sharing, size):
    with torch.device("meta"):
        cohort = cohort_of((network,), size=size, sharing=sharing)
    names = published_names(cohort)
    ours = {name for name in cohort.state_dict() if "heads" not in name and "num_batches_tracked" not in name}
    assert len(names) == len(ours)
    assert set(names.values()) == ours
    assert all(name.startswith("module_list.") == (sharing == "none") for name in names)


def test_unlike_peers_each_keep_the_names_of_their_network():
    cohort = cohort_of(("resnet8", "wrn_16_2"), size=2)
    names = published_names(cohort)
    assert names["module_list.0.layer1.0.conv1.weight"] == "stems.0.stage1.0.conv1.weight"
    assert names["module_list.1.block1.layer.0.conv1.weight"] == "stems.1.stage1.0.conv1.weight"
    assert names["module_list.1.fc.bias"] == "classifiers.1.bias"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_alone_has_the_names_of_a_peer_that_shares_nothing_and_its_counters(name):
    with torch.device("meta"):
        cohort = cohort_of((name,), size=1)
    names = network_names(name, cohort.peer(0))
    assert list(names) == list(cohort.peer(0).state_dict())
    assert len(set(names.values())) == len(names)
    known = {published.removeprefix("module_list.0.") for published in published_names(cohort)}
    assert {name for name in names.values() if not name.endswith("num_batches_tracked")} == known


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_there_and_back(sharing, prefix):
    source, target = (cohort_of(size=3, sharing=sharing, seed=seed) for seed in (0, 1))
    source(torch.randn(4, 1, 8, 8))
    heads = [head.hidden.weight.clone() for head in target.heads]
    load_published(target, {prefix + name: tensor for name, tensor in detached(source).items()})
    want, got = to_published(source), to_published(target)
    assert list(want) == list(got)
    assert all(torch.equal(want[name], got[name]) for name in want)
    assert torch.equal(source.eval().logits(torch.ones(1, 1, 8, 8)), target.eval().logits(torch.ones(1, 1, 8, 8)))
    assert all(torch.equal(head.hidden.weight, kept) for head, kept in zip(target.heads, heads, strict=True))


def test_counters_of_batches_are_passed_over():
    cohort = cohort_of()
    state_dict = detached(cohort)
    counters = {"module_list.0.bn1.num_batches_tracked": torch.tensor(7)}
    load_published(cohort, state_dict | counters)
    assert cohort.stems[0].norm.num_batches_tracked == 0


def test_what_does_not_fit_is_named_and_nothing_is_copied():
    cohort = cohort_of(size=2)
    before = detached(cohort)
    state_dict = {name: tensor + 1 for name, tensor in before.items()}
    del state_dict["module_list.1.bn1.bias"]
    state_dict["module_list.0.surprise"] = torch.zeros(1)
    state_dict["module_list.0.classifier.weight"] = torch.zeros(100, 64)
    with pytest.raises(CheckpointError) as raised:
        load_published(cohort, state_dict)
    message = str(raised.value)
    assert "2 × resnet8 without sharing" in message
    assert "1 missing: module_list.1.bn1.bias" in message
    assert "1 unexpected: module_list.0.surprise" in message
    assert "1 of another shape: module_list.0.classifier.weight ([100, 64], not [10, 64])" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in to_published(cohort).items())


def test_a_checkpoint_of_the_other_sharing_is_refused_in_few_words():
    with pytest.raises(
        CheckpointError, match=r"with a shared stem: 143 missing: .* 188 unexpected: .* and 183 more"
    ) as raised:
        load_published(cohort_of(size=4, sharing="stem"), detached(cohort_of(size=4, sharing="none")))
    assert len(str(raised.value)) < 700


def test_a_value_that_is_no_tensor_is_refused():
    cohort = cohort_of()
    with pytest.raises(CheckpointError, match=r"module_list\.0\.bn1\.bias \(list, not \[16\]\)"):
        load_published(cohort, detached(cohort) | {"module_list.0.bn1.bias": [0.0] * 16})


def test_some_prefixed_names_are_refused():
    cohort = cohort_of()
    with pytest.raises(CheckpointError, match=r"1 unexpected: module\.module_list\.0\.bn1\.bias"):
        load_published(cohort, detached(cohort) | {"module.module_list.0.bn1.bias": torch.zeros(16)})


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_a_published_file_is_read(tmp_path):
    cohort = cohort_of(size=2)
    optimiser = torch.optim.SGD(cohort.parameters(), lr=0.1).state_dict()
    content = {"net": detached(cohort), "acc": 0.74, "epoch": 299, "optimizer": optimiser}
    state_dict = read_published(save(tmp_path / "resnet8.pth.tar", content))
    load_published(cohort_of(size=2, seed=1), state_dict)
    assert list(state_dict) == list(published_names(cohort))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": {}}, "'net', but has entries state"),
        ({"net": 3}, "'net', but has entries net"),
        ([1, 2], "'net', but has list"),
        ({"net": {"weight": 1.0, 5: torch.zeros(1)}}, "but got others: weight, 5"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_published(save(tmp_path / "odd.pth.tar", content))


def test_damaged_and_missing_files_are_refused(tmp_path):
    whole = save(tmp_path / "whole.pth.tar", {"net": detached(cohort_of())}).read_bytes()
    for name, data in {"noise": bytes(range(256)) * 9, "empty": b"", "half": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=name):
            read_published(tmp_path / name)
    with pytest.raises(CheckpointError, match="absent"):
        read_published(tmp_path / "absent")


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_no_code_of_a_file_is_run(tmp_path):
    mark = tmp_path / "ran"
    save(tmp_path / "zip", {"net": Trap(mark)})
    (tmp_path / "pickle").write_bytes(pickle.dumps({"net": Trap(mark)}))
    for name in ("zip", "pickle"):
        with pytest.raises(CheckpointError, match=name):
            read_published(tmp_path / name)
    assert not mark.exists()
