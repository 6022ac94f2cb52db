"""Model directories and runs of earlier versions, and what is said of a configuration that can't be used."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from regard.cli import app
from regard.data import train_tokenizer
from regard.errors import CheckpointError
from regard.files import write_bytes
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.directory import Tokenizers, load_model
from regard.runs.load import load_translator
from regard.training import pack_weights, unpack_weights

CPU = torch.device("cpu")

# What the version wrote that knew the Transformer only.
OLD_CONFIG = """{
  "format": 1,
  "task": "translation",
  "model": {
    "name": "transformer",
    "source_vocabulary": 12,
    "target_vocabulary": 12,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "width": 16,
    "feedforward": 32,
    "heads": 2,
    "key_heads": null,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "norm": "post",
    "positions": "sinusoidal",
    "max_length": 1024,
    "shared": "all"
  },
  "decoding": {
    "beam": 5,
    "penalty": "average",
    "alpha": 1.0,
    "max_ratio": 2.0
  }
}
"""
OLD_TABLE = "encoder.embedding.tokens.weight"  # the name that a shared table was stored under
OLD_RECIPE = """[data]
folder = "FOLDER"
source = "a.en"
target = "a.de"
columns = [
    1,
    2,
]
held_out = 0.02
held_out_pairs = 2000
seed = 1
max_length = 200

[tokenizer]
kind = "word"
normalize = []
sample = 500000
dropout = 0.0

[model]
name = "transformer"
preset = "tiny"
encoder_layers = 1
decoder_layers = 1
width = 16
feedforward = 32
heads = 2

[training]
steps = 4
tokens_per_batch = 128
accumulate = 1
learning_rate = 0.001
schedule = "constant"
warmup = 5
betas = [
    0.9,
    0.98,
]
weight_decay = 0.0
label_smoothing = 0.1
clip = 1.0
seed = 1
validate_every = 2
validation_sentences = 4
metric = "loss"
average = 5
save_minutes = 5.0
device = "cpu"
precision = "float32"
gradient_checkpointing = false
sharding = "none"

[decoding]
beam = 5
penalty = "average"
alpha = 1.0
max_ratio = 2.0
"""
SETTINGS = (
    "model.encoder_layers=1",
    "model.decoder_layers=1",
    "model.width=16",
    "model.feedforward=32",
    "model.heads=2",
    "tokenizer.kind=word",
    "training.tokens_per_batch=128",
    "training.validate_every=2",
    "training.schedule=constant",
    "training.validation_sentences=4",
    "training.warmup=5",
    "training.device=cpu",
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    words = ("red", "blue", "green", "old")
    rows = [f"the {a} {b} {c}" for a in words for b in words for c in ("dog", "cat", "bird")]
    (tmp_path / "a.en").write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "a.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in rows))
    return tmp_path


def train(text: Path, out: str, steps: int) -> str:
    """Train into a directory beside the text; what the command said."""
    files = ["--source", "a.en", "--target", "a.de", "--data", str(text), "--out", str(text / out)]
    sets = [part for setting in (*SETTINGS, f"training.steps={steps}") for part in ("--set", setting)]
    done = CliRunner().invoke(app, ["train", *files, *sets])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def weights(directory: Path) -> dict[str, Tensor]:
    return unpack_weights((directory / "model.safetensors").read_bytes())


def make_old(directory: Path) -> None:
    """Turn a model directory into what the old version would have written."""
    model = weights(directory)
    (directory / "config.json").write_text(OLD_CONFIG)
    write_bytes(directory / "model.safetensors", pack_weights({OLD_TABLE: model.pop(OLD_TABLE), **model}))


def test_a_model_of_the_version_with_one_family_loads(text: Path) -> None:
    train(text, "run", 4)
    now = load_model(text / "run", CPU)
    make_old(text / "run")
    assert OLD_TABLE.encode() + b'":{"dtype"' in (text / "run" / "model.safetensors").read_bytes()
    old = load_model(text / "run", CPU)
    assert old.model.config == now.model.config == TransformerConfig(12, 12, 1, 1, 16, 32, 2)
    assert old.decoding == {"beam": 5, "penalty": "average", "alpha": 1.0, "max_ratio": 2.0}
    for name, tensor in now.model.state_dict().items():
        assert torch.equal(old.model.state_dict()[name], tensor), name
    assert old.model.output.weight is old.model.state_dict(keep_vars=True)[OLD_TABLE]
    assert len(load_translator(text / "run", device="cpu").translate(["the red dog"])) == 1


@pytest.mark.parametrize("missing", ["", 'name = "transformer"\n'], ids=["as written", "without a name"])
def test_a_run_of_that_version_goes_on_with_the_same_command(text: Path, missing: str) -> None:
    recipe = OLD_RECIPE.replace("FOLDER", str(text))
    assert missing in recipe and "snapshots" not in recipe
    train(text, "run", 4)
    (text / "run" / "recipe.toml").write_text(recipe.replace(missing, ""))
    make_old(text / "run")
    assert "going on from step 4" in train(text, "run", 4)
    assert "going on from step 4" in train(text, "run", 6)
    assert not (text / "run" / "snapshots").exists()
    train(text, "whole", 6)
    found, wanted = weights(text / "run"), weights(text / "whole")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "config.json: format 2; this version reads format 1"),
        ({"task": "chess"}, "the task is 'chess': expected a model for translation"),
        (
            {"name": "lstm"},
            "the model is .lstm.; supported for the task translation are transformer, rnn_seq2seq, bahdanau, luong",
        ),
        ({"name": "luong"}, "not a configuration this version understands"),
        ({"norm": "both"}, "norm is 'both': expected 'post' or 'pre'"),
        ({"beads": 2}, "not a configuration this version understands .*'beads'"),
        ({"heads": 3}, "not a configuration this version understands .*heads"),
        ({"width": 24}, "model.safetensors"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    content = json.loads(OLD_CONFIG)
    tokenizer = train_tokenizer("word", ["red red"])
    Tokenizers(tokenizer, tokenizer).save(tmp_path)
    model = build_transformer(TransformerConfig(12, 12, 1, 1, 16, 32, 2))
    write_bytes(tmp_path / "model.safetensors", pack_weights(model.state_dict()))
    for key, value in change.items():
        (content if key in content else content["model"])[key] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path, CPU)
