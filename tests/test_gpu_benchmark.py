"""The benchmark of a GPU, at a small size on one thread of a CPU."""

import json
import sys

import pytest
import torch

from benchmarks import evident, gpu
from mcl_ray.contrast.bank import SlotSampler
from mcl_ray.data.augment import epoch_generator
from mcl_ray.methods.supervised_bank import DRAW_STREAM

CPU = torch.device("cpu")


def run_of(case, switch, folder):
    limits = gpu.Limits(operations={"fp32": 1e9, "bf16": 2e9}, bytes=1e6)
    (run,) = gpu.Bench(CPU, limits, folder).runs(case, switch)
    return run


def test_the_floor_is_the_longer_of_the_times_for_operations_and_for_bytes(tmp_path):
    case = gpu.Case("resnet8", 2, batch=8)
    plain, half = run_of(case, "fp32", tmp_path), run_of(case, "default", tmp_path)
    # of each peer: three convolutions of 16 channels at 32 × 32 pixels, three of 32 at 16 × 16, three of 64 at 8 × 8
    outputs = 2 * 3 * (16 * 32**2 + 32 * 16**2 + 64 * 8**2)
    by_bytes = gpu.Limits(operations={"fp32": 1e30, "bf16": 1e30}, bytes=1e6)
    assert by_bytes.floor_s(plain) == pytest.approx(7 * 4 * 8 * outputs / 1e6)
    assert by_bytes.floor_s(half) == pytest.approx(7 * 2 * 8 * outputs / 1e6)
    by_operations = gpu.Limits(operations={"fp32": 1e9, "bf16": 4e9}, bytes=1e30)
    assert by_operations.floor_s(plain) == pytest.approx(4 * by_operations.floor_s(half))
    most = gpu.Limits(operations={"fp32": 1e9, "bf16": 4e9}, bytes=1e6).floor_s(plain)
    assert most == max(by_operations.floor_s(plain), by_bytes.floor_s(plain))


def test_the_straightforward_step_with_a_memory_bank_has_the_losses_of_the_method(tmp_path):
    case = gpu.Case("resnet8", 2, recipe="imagenet", batch=4)
    ours, plain = (run_of(case, "evident", tmp_path) for _ in range(2))
    ours.method.on_epoch_start(0, 0)
    expected = ours.method.losses(next(ours.batches(0)))
    bank = plain.spec.bank
    sampler = SlotSampler(plain.train.labels, positives=bank.positives, negatives=bank.negatives)
    optimizer = torch.optim.SGD(plain.cohort.parameters(), lr=0.1)
    generator = epoch_generator(0, 0, CPU, DRAW_STREAM)
    batch = next(plain.batches(0))
    found = evident.bank_step(plain.cohort, optimizer, plain.method.bank, sampler, batch, plain.spec.losses, generator)
    terms = {name: value.item() for name, value in expected.terms.items()}
    assert found == pytest.approx(terms | {"loss": expected.total.item()}, rel=1e-4, abs=1e-6)


def test_what_there_is_no_time_for_is_left_out_and_the_rest_is_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "SMALL_CASES", {"a": gpu.Case("resnet8", 2, batch=4), "b": gpu.Case("resnet8", 2)})
    monkeypatch.setattr(gpu, "STEPS", 1)
    monkeypatch.setenv("CXX", "no-such-program")
    file = tmp_path / "gpu.json"
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(file), "--device", "cpu", "--small", "--minutes", "0.001"])
    gpu.main()
    torch.set_num_threads(threads)
    written = json.loads(file.read_text())
    assert list(written["cases"]) == ["a"]
    assert written["left_out"] == ["b", "1 × resnet8", "2 × resnet8"]
    ways = [way for way in gpu.SWITCHES if way not in ("blocks", "graphs")]
    assert set(written["cases"]["a"]) == {"evident", "blocks", *ways}, "a CPU has no graphs"
    assert "requires a compiler" in written["cases"]["a"]["blocks"]["error"]
    for way in ways:
        measured = written["cases"]["a"][way]
        assert measured["images_per_s"] == pytest.approx(4e3 / measured["step_ms"], rel=0.01)
        assert {"ratio_to_evident", "ratio_to_floor", "peak_mib"} < set(measured)


def test_joint_steps_of_runs_are_compared_with_the_same_runs_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "STEPS", 1)
    trained, steps_of = [], gpu.steps_of

    def counted(runs):
        for step in steps_of(runs):
            trained.append([run.spec.seed for run in runs])
            yield step

    monkeypatch.setattr(gpu, "steps_of", counted)
    bench = gpu.Bench(CPU, gpu.Limits(operations={"bf16": 1e9}, bytes=1e6), tmp_path)
    found = bench.pack(gpu.Case("resnet8", 2, batch=4), 2)
    assert set(found) == {"runs", "gain", "joint_ms"}
    steps = gpu.WARM_STEPS + gpu.WINDOWS
    assert [trained.count(runs) for runs in ([0], [1], [0, 1])] == [steps] * 3


def test_the_operations_are_those_of_every_convolution_forward_and_backward(tmp_path):
    run = run_of(gpu.Case("resnet8", 2, batch=8), "fp32", tmp_path)
    first = 9 * 16 * 32**2 * (3 + 2 * 16)
    second = 16**2 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
    third = 8**2 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
    floor_s = gpu.Limits(operations={"fp32": 1e9}, bytes=1e30).floor_s(run)
    assert floor_s == pytest.approx(
        3 * 2 * 8 * 2 * (first + second + third) / 1e9, rel=0.01
    )  # but for the linear layers
