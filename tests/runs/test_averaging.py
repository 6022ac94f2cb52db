"""The mean of several models: the numbers, what is refused, the directory."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from regard.data import train_tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.models.transformer import build_transformer
from regard.runs.averaging import average_models, average_run, best_checkpoints, last_checkpoints
from regard.runs.directory import Tokenizers, load_model, save_model
from regard.runs.load import load_translator
from regard.training import CheckpointStore, Progress, average_checkpoints, mean_weights, pack_weights

CPU = torch.device("cpu")


def variant(directory: Path, tiny_model, seed: int, **changes: object) -> Path:
    """A model of the same kind with other weights."""
    saved = load_model(tiny_model.directory, CPU)
    config = replace(saved.model.config, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_transformer(config)
    directory.mkdir()
    saved.tokenizers.save(directory)
    save_model(directory, config, model.state_dict(), saved.decoding)
    return directory


def weights_of(directory: Path) -> dict[str, Tensor]:
    return dict(load_model(directory, CPU).model.state_dict())


@pytest.fixture
def three(tiny_model, tmp_path: Path) -> list[Path]:
    return [tiny_model.directory, variant(tmp_path / "b", tiny_model, 1), variant(tmp_path / "c", tiny_model, 2)]


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), min_size=1, max_size=6))
def test_sums_are_made_in_float64_and_rounded_once(rows: list[list[float]]) -> None:
    parts = [{"a": torch.tensor(row), "n": torch.tensor([i])} for i, row in enumerate(rows)]
    found = mean_weights(parts, [1.0] * len(rows))
    wanted = torch.tensor(rows, dtype=torch.float64).sum(0) / len(rows)
    assert torch.allclose(found["a"].double(), wanted, rtol=6e-8, atol=1e-38)
    assert found["a"].dtype == torch.float32 and found["n"].item() == len(rows) - 1


def test_shares_count_in_proportion_and_tied_weights_stay_tied() -> None:
    table = torch.tensor([4.0])
    first, second = {"a": torch.tensor([1.0]), "b": torch.tensor([1.0])}, {"a": table, "b": table}
    found = mean_weights([first, second], [2, 1])
    assert found["a"].item() == 2.0
    assert found["a"] is found["b"]


def test_models(tiny_model, three: list[Path], tmp_path: Path) -> None:
    (three[0] / "recipe.toml").write_text("# of the first\n")
    try:
        average_models(three, tmp_path / "mean", [1.0, 2.0, 1.0])
    finally:
        (three[0] / "recipe.toml").unlink()
    found, parts = weights_of(tmp_path / "mean"), [weights_of(one) for one in three]
    for name, tensor in found.items():
        wanted = (parts[0][name].double() + 2 * parts[1][name].double() + parts[2][name].double()) / 4
        assert torch.equal(tensor, wanted.float()), name
    assert len(load_file(tmp_path / "mean" / "model.safetensors")) == len(load_file(three[0] / "model.safetensors"))
    assert (tmp_path / "mean" / "recipe.toml").read_text() == "# of the first\n"
    assert json.loads((tmp_path / "mean" / "result.json").read_text()) == {
        "weights": "mean of 3 models",
        "averaged": [str(one) for one in three],
        "shares": [0.25, 0.5, 0.25],
    }
    assert load_translator(tmp_path / "mean", device="cpu").decoding == load_translator(three[0], device="cpu").decoding


def test_the_mean_of_a_model_with_itself_is_itself(tiny_model, tmp_path: Path) -> None:
    average_models([tiny_model.directory] * 3, tmp_path / "mean")
    assert load_translator(tmp_path / "mean", device="cpu").translate(["two dogs play"])[0].text == "zwei Hunde spielen"
    before, after = (one / "model.safetensors" for one in (tiny_model.directory, tmp_path / "mean"))
    assert before.read_bytes() == after.read_bytes()


def run_with_checkpoints(tiny_model, directory: Path) -> Path:
    """A run of five checkpoints, of which four were validated."""
    shutil.copytree(tiny_model.directory, directory)
    store = CheckpointStore(directory / "checkpoints")
    figures = {10: 3.0, 20: 1.0, 30: 2.0, 50: 2.5}
    for step in (10, 20, 30, 40, 50):
        weights = {name: tensor + step for name, tensor in weights_of(tiny_model.directory).items()}
        # the one of step 40 was saved by the clock
        progress = asdict(Progress(step=step, snapshots=tuple(n for n in figures if n <= step)))
        state = json.dumps({"progress": progress}).encode()
        store.write(step, [("model.safetensors", pack_weights(weights)), ("state.json", state)])
    events = [{"event": "step", "step": 1}, *({"event": "validation", "step": 20, "metrics": {"loss": 9.0}},)]
    events += [{"event": "validation", "step": step, "metrics": {"loss": figures[step]}} for step in figures]
    (directory / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (directory / "recipe.toml").write_text('[training]\nmetric = "loss"\n')
    return directory


def test_checkpoints_of_a_run(tiny_model, tmp_path: Path) -> None:
    run = run_with_checkpoints(tiny_model, tmp_path / "run")
    paths = [run / "checkpoints" / f"step-{step:06d}" for step in (10, 20, 30, 40, 50)]
    assert last_checkpoints(run, 2) == [paths[2], paths[4]]
    assert best_checkpoints(run, 3) == [paths[1], paths[2], paths[4]]
    (run / "recipe.toml").write_text('[training]\nmetric = "loss"\n[data]\n')
    average_run(run, paths[1:], tmp_path / "mean")
    wanted = average_checkpoints(paths[1:])
    for name, tensor in weights_of(tmp_path / "mean").items():
        assert torch.equal(tensor, wanted[name]), name
    result = json.loads((tmp_path / "mean" / "result.json").read_text())
    assert result["weights"] == "mean of 4 checkpoints" and result["averaged"] == [str(path) for path in paths[1:]]


def test_the_best_by_a_figure_that_should_be_large(tiny_model, tmp_path: Path) -> None:
    run = run_with_checkpoints(tiny_model, tmp_path / "run")
    (run / "recipe.toml").write_text('[training]\nmetric = "bleu"\n')
    log = run / "log.jsonl"
    log.write_text(log.read_text().replace('"loss"', '"bleu"'))
    assert best_checkpoints(run, 1) == [run / "checkpoints" / "step-000010"]


def test_what_a_run_lacks_is_said(tiny_model, tmp_path: Path) -> None:
    run = run_with_checkpoints(tiny_model, tmp_path / "run")
    with pytest.raises(CheckpointError, match="4 regular checkpoints, 6 were asked for"):
        last_checkpoints(run, 6)
    with pytest.raises(CheckpointError, match="4 validated checkpoints, 5 were asked for"):
        best_checkpoints(run, 5)
    with pytest.raises(CheckpointError, match=r"0 regular checkpoints, 1 were asked for"):
        last_checkpoints(tiny_model.directory, 1)
    (run / "log.jsonl").write_text("{\n")
    with pytest.raises(CheckpointError, match=r"log.jsonl: does not say how good"):
        best_checkpoints(run, 1)
    (run / "recipe.toml").unlink()
    with pytest.raises(CheckpointError, match=r"recipe.toml: does not say what the run was judged by"):
        best_checkpoints(run, 1)
    average = last_checkpoints(run, 2)
    (average[1] / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-000050/model.safetensors: truncated"):
        average_run(run, average, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_the_first_difference_is_named(tiny_model, tmp_path: Path) -> None:
    here = tiny_model.directory
    wide = variant(tmp_path / "wide", tiny_model, 1, feedforward=48)
    other = variant(tmp_path / "other", tiny_model, 1)
    apart = variant(tmp_path / "apart", tiny_model, 1)
    mine = load_model(here, CPU).tokenizers.source
    replaced = train_tokenizer("bpe", ["one dogs and catz"] * 9, mine.vocab_size)
    Tokenizers(replaced, replaced).save(other)
    (tmp_path / "few").mkdir()
    Tokenizers(mine, mine).save(tmp_path / "few")
    (apart / "tokenizer.json").unlink()
    Tokenizers(mine, replaced).save(apart)
    for there, message in (
        (wide, r"wide: another model than .*: feedforward is 48 there, here 32"),
        (other, rf"other/tokenizer.json: another tokenizer than in .*: it has {replaced.vocab_size} tokens, not 3"),
        (apart, r"apart: two tokenizers, but one tokenizer for both languages in"),
        (tmp_path, "not a model directory, it has no tokenizer"),
        (tmp_path / "few", "not a model directory, it has no config.json"),
    ):
        with pytest.raises(CheckpointError, match=message):
            average_models([here, there], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_models_that_differ_in_dropout_alone_are_averaged(tiny_model, tmp_path: Path) -> None:
    other = variant(tmp_path / "b", tiny_model, 1, dropout=0.3)
    average_models([tiny_model.directory, other], tmp_path / "mean")
    assert load_model(tmp_path / "mean", CPU).model.config.dropout == 0.0


def test_a_directory_in_use_stays_as_it_is(tiny_model, three: list[Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for out in (three[1], tiny_model.directory / "config.json"):
        with pytest.raises(ArgumentError, match="exists: choose another directory"):
            average_models(three, out)
    for shares, message in (([1.0], "1 weights for 3 models"), ([1.0, 0.0, 1.0], "weight 0.0: expected a number")):
        with pytest.raises(ArgumentError, match=message):
            average_models(three, tmp_path / "mean", shares)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    average_models(three, tmp_path / "empty")
    assert load_translator(tmp_path / "empty", device="cpu").max_tokens == tiny_model.max_tokens
