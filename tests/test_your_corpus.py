"""Every command of docs/your-corpus.md runs, in the order of the page, on a small corpus and with a small model."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regard.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "your-corpus.md").read_text("utf-8")
COMMAND = re.compile(r"^    regard (.+)$", re.MULTILINE)
RECIPE = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = [
    "model.width=16",
    "model.feedforward=32",
    "model.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "tokenizer.vocabulary=330",
    "training.tokens_per_batch=512",
    "training.validation_sentences=4",
]


def test_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["red", "blue", "green", "small", "large", "old", "new", "good"]
    rows = [
        f"the {a} {b} {c} {d}" for a in words for b in words for c in ("dog", "cat", "bird") for d in ("runs", "sat")
    ]
    for name, part in (("corpus", rows), ("test", rows[::40]), ("new", rows[::50])):
        (tmp_path / f"{name}.en").write_text("".join(f"{row}\n" for row in part))
        (tmp_path / f"{name}.de").write_text("".join(f"{' '.join(reversed(row.title().split()))}\n" for row in part))
    (tmp_path / "mine.toml").write_text(RECIPE.findall(PAGE)[0])
    commands = [shlex.split(line) for line in COMMAND.findall(PAGE)]
    assert {command[0] for command in commands} == {
        "check-data", "train", "evaluate", "attend", "average", "translate", "serve",
    }  # fmt: skip
    for command in commands:
        if command[0] == "serve":
            continue  # it would not end; tests/cli/test_cli_serve.py starts it
        if command[0] == "train":
            if "--minutes" in command:
                del command[command.index("--minutes") : command.index("--minutes") + 2]
            settings = [*SMALL, "training.steps=6"]
            command += [part for setting in settings for part in ("--set", setting)]
            if "mine.toml" in command:
                (tmp_path / "mine.toml").write_text((tmp_path / "mine.toml").read_text().replace("minutes = 240", ""))
        result = CliRunner().invoke(app, command, catch_exceptions=True)
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert (tmp_path / "clean" / "train.en").exists()
    assert (tmp_path / "runs" / "mine-mean" / "model.safetensors").exists()
    assert len((tmp_path / "new.de").read_text().splitlines()) == len(rows[::50])
