"""`torchrun --nproc-per-node 2 -m regard train …` as a user types it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import regard
from regard.cli import app
from regard.training import unpack_weights

SETTINGS = [
    "model.width=16",
    "model.feedforward=32",
    "model.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.dropout=0.0",
    "tokenizer.vocabulary=300",
    "training.tokens_per_batch=256",
    "training.validation_sentences=4",
    "training.warmup=5",
    "training.learning_rate=0.01",
    'training.device="cpu"',
    "training.schedule=constant",
]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    words = ["red", "blue", "green", "small", "large", "old", "new"]
    rows = [f"the {a} {b} {c}" for a in words for b in words for c in ("dog", "cat", "bird", "fish")]
    (folder / "a.en").write_text("".join(f"{row}\n" for row in rows))
    (folder / "a.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in rows))
    return folder


def command(text: Path, out: Path, processes: int, *settings: str) -> list[str]:
    start = [*TORCHRUN, str(processes), "--master-port", port(), "-m"] if processes > 1 else [sys.executable, "-m"]
    options = ["--source", str(text / "a.en"), "--target", str(text / "a.de"), "--out", str(out)]
    pairs = [part for setting in [*SETTINGS, *settings] for part in ("--set", setting)]
    return [*start, "regard", "train", *options, *pairs]


def port() -> str:
    return str(20000 + (os.getpid() * 13 + time.monotonic_ns() // 1000) % 20000)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=200)


def workers(out: Path) -> list[int]:
    """The processes that train in a directory; `torchrun` starts each in a session of its own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if str(out).encode() in arguments and b"torch.distributed.run" not in arguments:
            found.append(int(entry.name))
    return sorted(found)


def steps(out: Path) -> dict[int, tuple[float, int]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["tokens"]) for line in lines if line["event"] == "step"}


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    done = run(*command(text, out, 1, "training.steps=30"))
    assert done.returncode == 0, done.stderr
    return out


def assert_same_losses(out: Path, alone: Path) -> None:
    wanted = steps(alone)
    found = steps(out)
    assert found.keys() == wanted.keys()
    for step, (loss, tokens) in wanted.items():
        assert found[step] == (pytest.approx(loss, abs=1e-5), tokens)


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_reach_the_losses_of_one(text: Path, alone: Path, tmp_path: Path, sharding: str) -> None:
    out = tmp_path / "run"
    done = run(*command(text, out, 2, "training.steps=30", f"training.sharding={sharding}"))
    assert done.returncode == 0, done.stderr
    assert_same_losses(out, alone)
    assert " ".join(done.stderr.split()).count("cpu, 2 processes") == 1  # one of them talks
    assert json.loads((out / "result.json").read_text())["processes"] == 2
    ours, theirs = (json.loads((path / "result.json").read_text())["validation"]["loss"] for path in (out, alone))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert regard.load(out, device="cpu").translate(["the red old dog"], beam=2)[0].text


@pytest.mark.parametrize(("family", "sharding"), [("luong", "none"), ("bahdanau", "fsdp")])
def test_two_processes_train_a_recurrent_model_as_one_does(
    text: Path, tmp_path: Path, family: str, sharding: str
) -> None:
    recurrent = [f"model={{name='{family}', width=16, embedding=12, dropout=0.0}}", "training.steps=8"]
    alone, two = tmp_path / "alone", tmp_path / "two"
    one = CliRunner().invoke(app, command(text, alone, 1, *recurrent)[3:])
    assert one.exit_code == 0, (one.output, one.exception)
    done = run(*command(text, two, 2, *recurrent, f"training.sharding={sharding}"))
    assert done.returncode == 0, done.stderr
    assert_same_losses(two, alone)
    assert json.loads((two / "result.json").read_text())["processes"] == 2
    theirs, ours = (unpack_weights((path / "model.safetensors").read_bytes()) for path in (alone, two))
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, atol=1e-4, rtol=0, msg=key)
    assert regard.load(two, device="cpu").translate(["the red old dog"], beam=2)[0].text


def test_killed_and_resumed_on_another_number_of_processes(text: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    saving = ["training.steps=30", "training.validate_every=1"]
    process = subprocess.Popen(
        command(text, out, 2, *saving, "training.steps=400"),
        env=environment(),
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoints/step-00000[4-9]")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for found in (process.pid, *workers(out)):
        os.kill(found, signal.SIGKILL)
    process.wait()
    while workers(out):
        time.sleep(0.02)
    before = max(steps(out))
    assert before < 30, "it had ended before it was killed"
    done = run(*command(text, out, 1, *saving))
    assert done.returncode == 0, done.stderr
    said = re.search(r"going on from step ([\d,]+)", " ".join(done.stderr.split()))
    assert said is not None and 4 <= int(said[1]) <= before
    assert_same_losses(out, alone)


def test_a_killed_process_ends_the_run_with_a_message(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(text, out, 2, "training.steps=100000", "training.save_minutes=0.001"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("checkpoints/step-00000[1-9]")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(workers(out)[-1], signal.SIGKILL)
        _, errors = process.communicate(timeout=90)
    finally:
        for found in workers(out):
            os.kill(found, signal.SIGKILL)
        process.kill()
    assert process.returncode != 0
    assert "another process of this run has ended" in " ".join(errors.split())
    assert list(out.glob("checkpoints/step-*"))


def test_wrong_data_end_all_processes(text: Path, tmp_path: Path) -> None:
    (tmp_path / "short.de").write_text("nur eine Zeile\n")
    arguments = command(text, tmp_path / "run", 2, f"data.target={tmp_path / 'short.de'}")
    done = run(*arguments)
    assert done.returncode != 0
    assert "regard: error: " in done.stderr and "short.de has 1 line" in done.stderr


def test_sharding_needs_several_processes(text: Path, tmp_path: Path) -> None:
    done = run(*command(text, tmp_path / "run", 1, "training.sharding=fsdp"))
    assert done.returncode == 2
    assert "torchrun" in done.stderr
