"""`regard train` on tables, parts with weights, given tokenizers, with BPE dropout, and on text out of step."""

import json
import random
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import regard
from regard.cli import app
from regard.data import train_tokenizer
from regard.training import unpack_weights

SMALL = {
    "model": "width = 16\nfeedforward = 32\nheads = 2\nencoder_layers = 1\ndecoder_layers = 1\n",
    "training": 'tokens_per_batch = 256\nvalidation_sentences = 4\nwarmup = 5\ndevice = "cpu"\n',
}
WORDS = ["red", "blue", "green", "small", "large", "old", "new"]
ROWS = [f"the {a} {b} {c}" for a in WORDS for b in WORDS for c in ("dog", "cat", "bird", "fish")]
PAIRS = [(row, " ".join(reversed(row.split()))) for row in ROWS]


def recipe(folder: Path, data: str, tokenizer: str = "vocabulary = 300", training: str = "steps = 4") -> Path:
    path = folder / "recipe.toml"
    sections = {"tokenizer": tokenizer, "model": SMALL["model"], "training": SMALL["training"] + training}
    path.write_text(data + "".join(f"\n[{name}]\n{content}\n" for name, content in sections.items()))
    return path


def train(path: Path, out: str, *options: str):
    return CliRunner().invoke(app, ["train", str(path), "--out", str(path.parent / out), *options])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return unpack_weights((path / "model.safetensors").read_bytes())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_json_lines(path: Path, pairs: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"translation": {"en": a, "de": b}}) + "\n" for a, b in pairs))


def test_parts_with_weights_and_their_tokens_in_an_epoch(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS[:120]))
    write_json_lines(tmp_path / "b.jsonl", PAIRS[120:180])
    write_json_lines(tmp_path / "valid.jsonl", PAIRS[180:])
    data = (
        '[data]\nvalid_pairs = "valid.jsonl"\nvalid_columns = ["translation.en", "translation.de"]\n'
        '[[data.train]]\npairs = "a.tsv"\nweight = 2\n'
        '[[data.train]]\npairs = "b.jsonl"\ncolumns = ["translation.en", "translation.de"]\nweight = 0.5\n'
    )
    result = train(recipe(tmp_path, data, training="epochs = 2"), "run", "--json")
    assert result.exit_code == 0, result.output
    reached = json.loads((tmp_path / "run" / "result.json").read_text())
    tokenizer = regard.load(tmp_path / "run", device="cpu").tokenizers.target
    counts = [len(ids) + 1 for ids in tokenizer.encode_batch([target for _, target in PAIRS[:180]])]
    # two epochs: four times the first part, once the second
    assert reached["target_tokens"] == 4 * sum(counts[:120]) + sum(counts[120:])
    assert reached["epochs"] == 2


def test_dropout_of_merges_resumes_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    plain, dropped = (f"vocabulary = 330\n{key}" for key in ("", "dropout = 0.3"))
    constant = 'schedule = "constant"\nvalidate_every = 4\nsteps = '
    data = '[data]\npairs = "a.tsv"\n'
    assert train(recipe(tmp_path, data, dropped, constant + "8"), "through").exit_code == 0
    assert train(recipe(tmp_path, data, dropped, constant + "4"), "halves").exit_code == 0
    assert train(recipe(tmp_path, data, dropped, constant + "8"), "halves").exit_code == 0
    assert same(weights(tmp_path / "through"), weights(tmp_path / "halves"))
    assert train(recipe(tmp_path, data, plain, constant + "8"), "plain").exit_code == 0
    assert not same(weights(tmp_path / "through"), weights(tmp_path / "plain"))


def test_dropout_needs_merges(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    path = recipe(tmp_path, '[data]\npairs = "a.tsv"\n', 'kind = "word"\ndropout = 0.1')
    result = train(path, "run")
    assert "tokenizer.dropout = 0.1" in str(result.exception) and "bpe" in str(result.exception)


def test_a_given_tokenizer_and_normalised_text(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a.upper()}\t{b}\n" for a, b in PAIRS))
    train_tokenizer("unigram", [text for pair in PAIRS for text in pair], 290).save(tmp_path / "mine.json")
    keys = 'file = "mine.json"\nnormalize = ["lower"]'
    result = train(recipe(tmp_path, '[data]\npairs = "a.tsv"\n', keys), "run")
    assert result.exit_code == 0, (result.output, result.exception)
    translator = regard.load(tmp_path / "run", device="cpu")
    assert translator.tokenizers.source.kind == "unigram"
    assert translator.tokenizers.source.encode("THE RED DOG") == translator.tokenizers.source.encode("the red dog")
    [upper, lower] = translator.translate(["THE RED OLD DOG", "the red old dog"], beam=2)
    assert upper.text == lower.text


def test_text_out_of_step_is_refused(tmp_path: Path) -> None:
    """One stray line in the middle of one side: everything behind it answers the sentence before."""
    draw = random.Random(3)
    rows = [draw.choices(WORDS, k=draw.randrange(2, 30)) for _ in range(4000)]
    targets = [" ".join(word.upper() for word in row) for row in rows]
    targets.insert(1500, "a stray line")
    (tmp_path / "a.en").write_text("".join(f"{' '.join(row)}\n" for row in rows))
    (tmp_path / "a.de").write_text("".join(f"{line}\n" for line in targets[: len(rows)]))
    path = recipe(tmp_path, '[data]\nsource = "a.en"\ntarget = "a.de"\n')
    result = train(path, "run")
    message = str(result.exception)
    assert "out of step" in message and "check-data" in message
    place = int(message.split("about pair ")[1].split(" ")[0].replace(",", ""))
    assert abs(place - 1500) < 150


def test_precision_and_gradient_checkpointing(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    data = '[data]\npairs = "a.tsv"\n'
    for name, keys in {"plain": "", "again": "gradient_checkpointing = true", "half": 'precision = "bfloat16"'}.items():
        result = train(recipe(tmp_path, data, training=f"steps = 4\n{keys}"), name)
        assert result.exit_code == 0, (result.output, result.exception)
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "again"))
    plain, half = weights(tmp_path / "plain"), weights(tmp_path / "half")
    assert not same(plain, half) and all(tensor.dtype == torch.float32 for tensor in half.values())
    losses = [
        json.loads((tmp_path / name / "result.json").read_text())["validation"]["loss"] for name in ("plain", "half")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_two_runs_share_the_prepared_text(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    data = '[data]\npairs = "a.tsv"\nprepared = "tokens"\n'
    assert train(recipe(tmp_path, data), "one").exit_code == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tokens").iterdir() if path.name[0] != "."}
    assert train(recipe(tmp_path, data, training="steps = 5"), "two").exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "tokens").iterdir() if path.name[0] != "."}
    assert before == after and not (tmp_path / "two" / "prepared").exists()
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()
    other = train(recipe(tmp_path, data + "max_length = 50\n"), "three")
    assert "max_length: 200 → 50" in str(other.exception)
