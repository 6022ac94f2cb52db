"""Several processes train as one does: same losses, same place in the data, one writer, and an end in any case."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from regard.training import load_checkpoint
from regard.training.store import CheckpointStore

SCRIPT = Path(__file__).with_name("distributed_run.py")
STEPS = 12
SECONDS = 120


def launch(folder, processes, *options, steps=STEPS):
    """What `torchrun` does, without its half second of start-up for each run: the environment of each process."""
    folder.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    environment["OMP_NUM_THREADS"] = "1"
    if processes == 1:
        environments = [environment]
    else:
        port = str(20000 + (os.getpid() * 7 + time.monotonic_ns() // 1000) % 20000)
        shared = environment | {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environments = [shared | {"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(processes)]
    command = [sys.executable, str(SCRIPT), str(folder), str(steps), *map(str, options)]
    running = [
        subprocess.Popen(command, env=one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for one in environments
    ]
    errors = [process.communicate(timeout=SECONDS)[1] for process in running]
    return [process.returncode for process in running], errors


def results(folder, processes):
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(processes)]


def trained(folder, processes, *options, steps=STEPS):
    codes, errors = launch(folder, processes, *options, steps=steps)
    assert codes == [0] * processes, errors
    return results(folder, processes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), 1, "--accumulate", 2)[0]


@pytest.mark.parametrize("options", [[], ["--sharding", "fsdp"], ["--recompute"]], ids=["ddp", "fsdp", "recompute"])
def test_losses_equal_those_of_one_process(alone, tmp_path, options):
    several = trained(tmp_path / "run", 2, "--accumulate", 2, *options)
    for result in several:
        assert result["losses"].keys() == alone["losses"].keys()
        for step, (loss, norm, tokens) in alone["losses"].items():
            assert result["losses"][step][0] == pytest.approx(loss, abs=1e-5)
            assert result["losses"][step][1] == pytest.approx(norm, rel=1e-4)
            assert result["losses"][step][2] == tokens
    assert several[0]["weights"] == several[1]["weights"]


def test_more_processes_than_examples_of_a_batch(tmp_path):
    """A process without an example takes part all the same."""
    one = trained(tmp_path / "one", 1, "--per-batch", 2, steps=5)[0]
    three = trained(tmp_path / "three", 3, "--per-batch", 2, steps=5)[0]
    for step, (loss, _, tokens) in one["losses"].items():
        assert three["losses"][step][0] == pytest.approx(loss, abs=1e-5)
        assert three["losses"][step][2] == tokens


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_stopped_and_resumed_on_another_number_it_goes_on_in_the_same_place(alone, tmp_path, sharding):
    """A signal that reaches one process stops all; one process, then two, then one again see every batch once."""
    options = ["--accumulate", 2, "--sharding", sharding]
    codes, errors = launch(tmp_path / "run", 2, *options, "--stop", "1:4")
    assert codes == [0, 0], errors
    first = results(tmp_path / "run", 2)
    assert {result["finished"] for result in first} == {"interrupted"}
    at = first[0]["step"]
    assert first[1]["step"] == at and 4 <= at <= 6
    checkpoint = load_checkpoint(CheckpointStore(tmp_path / "run" / "checkpoints").path(at))
    assert checkpoint.environment["processes"] == "2" and "process.1.torch" in checkpoint.random
    rest = trained(tmp_path / "run", 1, "--accumulate", 2)[0]
    assert min(map(int, rest["losses"])) == at + 1
    for step, (loss, _, tokens) in alone["losses"].items():
        other = (first[0]["losses"] | rest["losses"])[step]
        assert other[0] == pytest.approx(loss, abs=1e-5) and other[2] == tokens
    again = trained(tmp_path / "run", 2, *options, steps=STEPS + 4)[0]
    assert min(map(int, again["losses"])) == STEPS + 1 and again["step"] == STEPS + 4


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_as_many_processes_again_give_the_same_bits_with_dropout(tmp_path, sharding):
    options = ["--dropout", 0.3, "--sharding", sharding]
    through = trained(tmp_path / "through", 2, *options)
    codes, errors = launch(tmp_path / "halves", 2, *options, "--stop", "0:6")
    assert codes == [0, 0], errors
    resumed = trained(tmp_path / "halves", 2, *options)
    assert resumed[0]["weights"] == through[0]["weights"]
    one = trained(tmp_path / "one", 1, "--dropout", 0.3)[0]
    assert one["weights"] != through[0]["weights"]  # processes draw their own dropout


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run_with_a_message(tmp_path, rank):
    started = time.monotonic()
    codes, errors = launch(tmp_path / "run", 2, "--die", f"{rank}:6")
    assert codes[rank] == 9
    assert codes[1 - rank] == 2
    assert "another process of this run has ended" in errors[1 - rank]
    assert "step-000005" in errors[1 - rank] and "the same command goes on" in errors[1 - rank]
    assert time.monotonic() - started < 60
    finished = trained(tmp_path / "run", 2)
    assert finished[0]["finished"] == "steps"


def test_only_the_first_process_writes(tmp_path):
    """The others run with a checkpoint folder that they may not write: they would fail."""
    codes, errors = launch(tmp_path / "run", 2, "--others-may-not-write")
    assert codes == [0, 0], errors
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps()[-1] == STEPS


def test_half_precision_keeps_full_weights(tmp_path):
    full = trained(tmp_path / "full", 1)[0]
    half = trained(tmp_path / "half", 1, "--precision", "bfloat16")[0]
    several = trained(tmp_path / "several", 2, "--precision", "bfloat16")[0]
    differences = [abs(full["losses"][step][0] - half["losses"][step][0]) for step in full["losses"]]
    assert 0 < max(differences) < 0.05
    assert several["losses"]["1"][0] == pytest.approx(half["losses"]["1"][0], abs=0.02)
    weights = load_checkpoint(CheckpointStore(tmp_path / "half" / "checkpoints").path(STEPS)).weights
    assert {tensor.dtype for name, tensor in weights.items() if name != "calls"} == {torch.float32}
