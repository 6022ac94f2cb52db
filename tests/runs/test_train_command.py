"""`regard train` as a user types it: results, resuming, extending, and one clear line for each mistake."""

import json
import os
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
from regard.data import train_tokenizer
from regard.errors import RegardError
from regard.training import unpack_weights

SMALL = [
    "model.width=16",
    "model.feedforward=32",
    "model.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "tokenizer.vocabulary=300",
    "training.tokens_per_batch=256",
    "training.validation_sentences=4",
    "training.warmup=5",
    'training.device="cpu"',
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = ["red", "blue", "green", "small", "large", "old", "new"]
    rows = [f"the {a} {b} {c}" for a in words for b in words for c in ("dog", "cat", "bird", "fish")]
    (tmp_path / "a.en").write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "a.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in rows))
    return tmp_path


def train(text: Path, *options: str, settings: list[str] | None = None, out: str = "run"):
    command = ["train", "--source", str(text / "a.en"), "--target", str(text / "a.de"), "--out", str(text / out)]
    for setting in [*SMALL, *(settings or ["training.steps=6"])]:
        command += ["--set", setting]
    return CliRunner().invoke(app, [*command, *options], catch_exceptions=True)


def weights(text: Path, out: str = "run") -> dict[str, torch.Tensor]:
    return unpack_weights((text / out / "model.safetensors").read_bytes())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_makes_a_directory_that_loads(text: Path) -> None:
    result = train(text)
    assert result.exit_code == 0, result.output
    assert "held out" in result.output
    assert "regard translate" in result.output
    translator = regard.load(text / "run", device="cpu")
    assert len(translator.translate(["the red old dog", ""], beam=2)) == 2
    reached = json.loads((text / "run" / "result.json").read_text())
    assert reached["steps"] == 6
    assert reached["validation"]["loss"] > 0
    steps = [json.loads(line) for line in (text / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    info = CliRunner().invoke(app, ["info", str(text / "run"), "--json"])
    assert json.loads(info.output)["training: steps"] == 6


def test_the_recipe_kept_with_a_run_goes_on_with_it(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(text)
    command = ["train", "--source", "a.en", "--target", "a.de", "--out", "run"]
    for setting in [*SMALL, "training.steps=4"]:
        command += ["--set", setting]
    assert CliRunner().invoke(app, command).exit_code == 0
    monkeypatch.chdir("/")
    again = ["train", str(text / "run" / "recipe.toml"), "--out", str(text / "run"), "--set", "training.steps=6"]
    result = CliRunner().invoke(app, again)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "going on from step 4" in result.output


def test_dry_run_writes_nothing(text: Path) -> None:
    before = sorted(text.iterdir())
    result = train(text, "--dry-run")
    assert result.exit_code == 0, result.output
    for word in ("parameters", "target tokens", "minutes", "MiB", "nothing was written"):
        assert word in result.output
    assert sorted(text.iterdir()) == before


def test_extended_run_equals_one_long_run(text: Path) -> None:
    schedule = ["training.schedule=constant", "training.validate_every=3"]
    assert train(text, settings=["training.steps=4", *schedule]).exit_code == 0
    assert train(text, settings=["training.steps=9", *schedule]).exit_code == 0
    assert train(text, settings=["training.steps=9", *schedule], out="long").exit_code == 0
    assert same(weights(text), weights(text, "long"))


def test_a_finished_run_is_not_trained_again(text: Path) -> None:
    assert train(text).exit_code == 0
    first = weights(text)
    again = train(text)
    assert again.exit_code == 0
    assert "going on from step 6" in again.output
    assert same(first, weights(text))


def test_epochs_tokens_and_minutes_are_budgets(text: Path) -> None:
    assert train(text, settings=["training.epochs=2"], out="epochs").exit_code == 0
    assert json.loads((text / "epochs" / "result.json").read_text())["epochs"] == 2
    assert train(text, settings=["training.tokens=500"], out="tokens").exit_code == 0
    assert json.loads((text / "tokens" / "result.json").read_text())["target_tokens"] >= 500
    started = time.monotonic()
    result = train(text, "--minutes", "0.08", settings=["training.schedule=linear"], out="minutes")
    assert result.exit_code == 0, result.output
    assert json.loads((text / "minutes" / "result.json").read_text())["finished"] == "minutes"
    assert time.monotonic() - started < 60


def test_init_from_starts_with_the_other_models_weights(text: Path) -> None:
    assert train(text).exit_code == 0
    settings = ["training.steps=1", "training.learning_rate=1e-12", "training.warmup=0"]
    result = train(text, "--init-from", str(text / "run"), settings=settings, out="next")
    assert result.exit_code == 0, result.output
    for name, tensor in weights(text, "next").items():
        torch.testing.assert_close(tensor, weights(text)[name], atol=1e-6, rtol=1e-5)


def test_init_from_a_model_for_another_task_is_refused_at_once(text: Path) -> None:
    (text / "other").mkdir()
    content = {"format": 1, "task": "classification", "model": {"name": "bert"}, "labels": ["a", "b"]}
    (text / "other" / "config.json").write_text(json.dumps(content))
    result = train(text, "--init-from", str(text / "other"), out="next")
    assert isinstance(result.exception, RegardError)
    assert "config.json: a model for classification: expected one for translation" in str(result.exception)
    assert not (text / "next").exists()


def test_columns_are_refused_for_plain_text(text: Path) -> None:
    command = ["train", "--text", str(text / "a.en"), "--columns", "9,17", "--out", str(text / "run")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, RegardError)
    assert "--columns is for --pairs" in str(result.exception)


def test_paths_of_settings_lead_there_from_the_run_too(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_tokenizer("char", (text / "a.en").read_text("utf-8").splitlines()).save(text / "own.json")
    monkeypatch.chdir(text)
    settings = ["tokenizer.file=own.json", "data.length=8", "training.steps=1", "training.device=cpu", "model.layers=1"]
    given = [part for one in settings for part in ("--set", one)]
    first = CliRunner().invoke(app, ["train", "--text", "a.en", "--out", "run", "--quiet", *given])
    assert first.exit_code == 0, first.exception
    again = CliRunner().invoke(app, ["train", "run/recipe.toml", "--out", "run", "--quiet"])
    assert again.exit_code == 0, again.exception


def test_a_budget_too_short_for_validation_says_what_to_lower(text: Path) -> None:
    result = train(text, settings=["training.minutes=1e-6"])
    assert isinstance(result.exception, RegardError)
    assert str(result.exception).endswith("or have less validated (training.validation_sentences)")
    assert not (text / "run" / "recipe.toml").exists()
    assert train(text, settings=["training.steps=1", "training.seed=7"]).exit_code == 0


def test_separate_tokenizers(text: Path) -> None:
    both = ['tokenizer.source={kind="word"}', 'tokenizer.target={kind="char"}', "training.steps=2"]
    result = train(text, settings=both)
    assert result.exit_code == 0, result.output
    assert regard.load(text / "run", device="cpu").tokenizers.target.kind == "char"


def test_tensorboard_files_are_written(text: Path) -> None:
    pytest.importorskip("tensorboard")
    assert train(text, "--tensorboard").exit_code == 0
    assert list((text / "run" / "tensorboard").glob("events.*"))


def test_early_stopping(text: Path) -> None:
    settings = ["training.steps=400", "training.validate_every=2", "training.patience=2", "training.learning_rate=1e-9"]
    # almost no learning: validations can't keep improving by much, and patience ends the run long before its budget
    result = train(text, settings=[*settings, "training.metric=bleu"])
    assert result.exit_code == 0, result.output
    assert json.loads((text / "run" / "result.json").read_text())["finished"] == "patience"


def test_interrupt_saves_and_the_same_command_goes_on(text: Path) -> None:
    command = [sys.executable, "-m", "regard", "train", "--source", str(text / "a.en"), "--target", str(text / "a.de")]
    settings = [*SMALL, "training.steps=600", "training.validate_every=10"]
    for setting in settings:
        command += ["--set", setting]
    process = subprocess.Popen(
        [*command, "--out", str(text / "run")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log = text / "run" / "log.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (log.exists() and '"validation"' in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors
    stopped = json.loads((text / "run" / "result.json").read_text())
    assert stopped["finished"] == "interrupted"
    assert 10 <= stopped["steps"] < 600
    regard.load(text / "run", device="cpu")  # the best so far can be used
    assert train(text, settings=["training.steps=600", "training.validate_every=10"]).exit_code == 0
    assert json.loads((text / "run" / "result.json").read_text())["steps"] == 600


def failure(result) -> str:
    assert isinstance(result.exception, RegardError), (result.output, result.exception)
    return str(result.exception)


def test_a_directory_with_another_run_is_refused(text: Path) -> None:
    assert train(text).exit_code == 0
    message = failure(train(text, settings=["training.steps=6", "model.dropout=0.3"]))
    assert "holds another run" in message
    assert "model.dropout: None → 0.3" in message


def test_a_directory_that_is_no_run_is_refused(text: Path) -> None:
    (text / "run").mkdir()
    (text / "run" / "thesis.tex").write_text("years of work")
    assert "is not a run" in failure(train(text))
    assert [entry.name for entry in (text / "run").iterdir()] == ["thesis.tex"]


def test_changed_data_are_refused(text: Path) -> None:
    assert train(text).exit_code == 0
    with open(text / "a.en", "a") as a, open(text / "a.de", "a") as b:
        a.write("one more line\n")
        b.write("line more one\n")
    assert "the data have changed" in failure(train(text))


def test_bad_data_leave_nothing_behind(text: Path) -> None:
    (text / "a.de").write_text("only one line\n")
    message = failure(train(text))
    assert "a.en" in message
    assert "196" in message
    assert not (text / "run").exists()
    (text / "a.de").write_bytes(b"fine\nnot \xff fine\n" + 194 * b"fine\n")
    assert "line 2" in failure(train(text))
    (text / "a.en").write_text("")
    (text / "a.de").write_text("")
    failure(train(text))
    (text / "a.en").unlink()
    assert "a.en" in failure(train(text))


def test_damaged_checkpoints_are_named(text: Path) -> None:
    assert train(text).exit_code == 0
    for folder in (text / "run" / "checkpoints").iterdir():
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-20])
    assert "model.safetensors" in failure(train(text))


def test_truncated_model_is_refused(text: Path) -> None:
    assert train(text).exit_code == 0
    file = text / "run" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RegardError, match=r"model\.safetensors"):
        regard.load(text / "run", device="cpu")


def test_nan_stops_with_a_message(text: Path) -> None:
    message = failure(train(text, settings=["training.steps=50", "training.learning_rate=1e30", "training.warmup=0"]))
    assert "lower learning rate" in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.tokens_per_batch=3"], "tokens_per_batch"),
        (["model.heads=3"], "model.heads = 3"),
        (["data.max_length=5000"], "data.max_length"),
        (["training.device=tpu9"], "tpu9"),
        (["model.shared=all", 'tokenizer.source={kind="word"}', 'tokenizer.target={kind="char"}'], "model.shared"),
    ],
)
def test_settings_that_do_not_fit(text: Path, settings: list[str], words: str) -> None:
    assert words in failure(train(text, settings=["training.steps=2", *settings]))
    # at most the tokenised text is left, and the corrected command uses the same directory
    assert not (text / "run").exists() or [entry.name for entry in (text / "run").iterdir()] == ["prepared"]
    assert train(text, settings=["training.steps=2"]).exit_code == 0


def test_second_process_is_kept_out(text: Path) -> None:
    import fcntl

    assert train(text).exit_code == 0
    with open(text / "run" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "in use" in failure(train(text))
