"""`training.attention_every`: what it measures is right, and training is the same bits with it and without."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regard.errors import RecipeError
from regard.models.transformer import TransformerConfig, build_transformer
from regard.recording import record
from regard.runs.attention_health import AttentionMeasured, with_attention
from regard.runs.logs import log_listener, tensorboard_listener
from regard.runs.recipe import make_recipe
from regard.runs.recipe_files import recipe_toml
from regard.runs.train import Run
from regard.tasks.translation import Specials, TranslationBatch, TranslationObjective, collate
from regard.training import CheckpointStore, Problem, StepDone

WORDS = ("red", "blue", "green", "old")
ROWS = [f"the {a} {b} {c}" for a in WORDS for b in WORDS for c in ("dog", "cat")]
SMALL = {"encoder_layers": 1, "decoder_layers": 1, "width": 16, "feedforward": 32, "heads": 2}
RECURRENT = {"embedding": 12, "width": 16}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.en").write_text("".join(f"{row}\n" for row in ROWS))
    (folder / "a.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in ROWS))
    return folder


def content(text: Path, model: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    common = {"steps": 6, "validate_every": 3, "validation_sentences": 2, "tokens_per_batch": 64, "warmup": 2}
    return {
        "data": {"folder": str(text), "source": "a.en", "target": "a.de"},
        "tokenizer": {"kind": "word"},
        "model": SMALL if model is None else model,
        "training": {**common, "device": "cpu", **training},
    }


def trained(text: Path, out: Path, *listeners: Any, model: dict[str, Any] | None = None, **training: Any) -> Path:
    Run(make_recipe(content(text, model, **training)), out, lambda text: None).train(
        [log_listener(out / "log.jsonl"), *listeners]
    )
    return out


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Weights, optimizer, random states and losses."""
    assert [one["loss"] for one in events(ours, "step")] == [one["loss"] for one in events(theirs, "step")]
    a, b = (CheckpointStore(out / "checkpoints").path(6) for out in (ours, theirs))
    for file in ("model.safetensors", "optimizer.safetensors", "random.safetensors"):
        assert (a / file).read_bytes() == (b / file).read_bytes(), file


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 2},
        {"precision": "bfloat16", "accumulate": 2},
        {"gradient_checkpointing": True},
        {"model": {"name": "luong", "layers": 1, **RECURRENT}},
        {"model": {"name": "bahdanau", **RECURRENT}, "precision": "bfloat16", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_training_is_the_same_bits(text: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    without = trained(text, tmp_path / "without", **options)
    measured = trained(text, tmp_path / "with", attention_every=2, **options)
    assert_same_run(measured, without)
    found = events(measured, "attention")
    assert [one["step"] for one in found] == [2, 4, 6] and not events(without, "attention")
    assert found[0]["health"].keys() == found[1]["health"].keys() and found[0]["health"] != found[1]["health"]
    assert all(one["health"][name] >= 0 for one in found for name in one["health"])


def test_a_resumed_run_measures_the_same(text: Path, tmp_path: Path) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    whole = trained(text, tmp_path / "whole", attention_every=2)
    for listeners in ([interrupt], []):
        out = trained(text, tmp_path / "stopped", *listeners, attention_every=2)
    assert events(out, "attention") == events(whole, "attention")
    assert_same_run(out, whole)


def real(batch: TranslationBatch) -> dict[str, torch.Tensor]:
    lengths = batch.sources.lengths
    return {"source": torch.arange(batch.sources.tokens.shape[1]) < lengths[:, None], "target": batch.real}


def test_the_numbers_are_those_of_a_map_of_the_same_batch() -> None:
    torch.manual_seed(3)
    model = build_transformer(
        TransformerConfig(11, 13, 2, 2, 12, 20, 3, dropout=0.0, attention_dropout=0.5, shared="target")
    )
    batches = [
        collate(sources, targets, Specials(0, 1, 2, 0, 2), torch.device("cpu"))
        for sources, targets in (([[5, 6, 7, 8], [9, 4]], [[4, 5, 6], [7]]), ([[3]], [[4]]))
    ]
    told: list[AttentionMeasured] = []
    step = 0
    plain: Problem[TranslationBatch] = Problem(
        epoch=lambda number: [],
        collate=lambda indices, epoch: batches[0],
        tokens=lambda batch: batch.count,
        loss=TranslationObjective(model, 0.1),
    )
    watched = with_attention(plain, model, 2, lambda: step, told.append, real)
    for step in (1, 2, 3, 4):
        for batch in batches:
            torch.manual_seed(step)
            value = watched.loss(batch)
            torch.manual_seed(step)
            assert torch.equal(value, plain.loss(batch))
    assert [one.step for one in told] == [2, 4]  # of the first batch of a step alone
    assert with_attention(plain, model, 0, lambda: step, told.append, real) is plain
    torch.manual_seed(2)
    with record(model) as recording:
        plain.loss(batches[0])
    lengths = {"source": [5, 3], "target": [4, 2]}
    for name, table in recording.items():
        weights = table.dense()  # (B, H, Q, K)
        rows = torch.cat(
            [one[:, :n] for one, n in zip(weights, lengths[recording.roles[name].queries], strict=True)], 1
        )
        entropy = torch.special.entr(rows).sum(-1).mean(-1)  # (H,)
        for head in range(3):
            for measure, wanted in (("entropy", entropy[head]), ("first_key", rows[head, :, 0].mean())):
                found = told[0].health[f"attention/{name}/{measure}/head_{head}"]
                assert found == pytest.approx(float(wanted), abs=1e-5), (name, measure, head)


def test_two_processes_with_weights_spread(text: Path, tmp_path: Path) -> None:
    model, two = SMALL | {"dropout": 0.0}, tmp_path / "two"
    alone = trained(text, tmp_path / "alone", model=model)
    recipe = make_recipe(content(text, model, sharding="fsdp", attention_every=2))
    (tmp_path / "recipe.toml").write_text(recipe_toml(recipe))
    port = str(20000 + (os.getpid() * 7 + time.monotonic_ns() // 1000) % 20000)
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, "-m"]
    done = subprocess.run(
        [*start, "regard", "train", str(tmp_path / "recipe.toml"), "--out", str(two), "--quiet"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = ([one["loss"] for one in events(out, "step")] for out in (two, alone))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert [one["step"] for one in events(two, "attention")] == [2, 4, 6]  # one of them talks


def test_a_model_without_attention_is_refused_before_data_are_read(text: Path, tmp_path: Path) -> None:
    recipe = make_recipe(content(tmp_path / "nowhere", {"name": "rnn_seq2seq"}, attention_every=7))
    with pytest.raises(RecipeError, match=r"training.attention_every = 7: .*'rnn_seq2seq' has no attention to measure"):
        Run(recipe, tmp_path / "run", lambda text: None)
    wrong = make_recipe(content(text, SMALL | {"heads": 3}, attention_every=7))
    with pytest.raises(RecipeError, match=r"model\..*heads"):
        Run(wrong, tmp_path / "run", lambda text: None)


def test_the_logs_have_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = AttentionMeasured(40, {"attention/decoder.cross/entropy_mean": 1.25})
    listen = log_listener(tmp_path / "log.jsonl")
    listen(event)
    listen(replace(event, step=80))
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        {"event": "attention", "step": step, "health": {"attention/decoder.cross/entropy_mean": 1.25}}
        for step in (40, 80)
    ]
    pytest.importorskip("tensorboard")
    from torch.utils import tensorboard

    written: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", lambda self, *values: written.append(values))
    tensorboard_listener(tmp_path / "board")(event)
    assert written == [("attention/decoder.cross/entropy_mean", 1.25, 40)]
