"""Every family of models through what a run does: trained, stopped and gone on with, loaded, used, averaged, mixed."""

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from regard.cli import app
from regard.decoding import Sampling
from regard.errors import CheckpointError, RecipeError, UnsupportedError
from regard.models.families import FAMILIES
from regard.runs.averaging import average_models, average_run, last_checkpoints
from regard.runs.ensembles import ensemble
from regard.runs.evaluate import evaluate
from regard.runs.load import load_translator
from regard.runs.logs import log_listener
from regard.runs.recipe import read_recipe
from regard.runs.snapshots import snapshot_path, snapshot_steps
from regard.runs.train import Run
from regard.runs.translator import Translator
from regard.training import CheckpointStore, Event, StepDone, load_weights, unpack_weights

SIZES = {
    "transformer": ("encoder_layers=1", "decoder_layers=1", "width=16", "feedforward=32", "heads=2"),
    "rnn_seq2seq": ("layers=2", "embedding=12", "width=16"),
    "bahdanau": ("embedding=12", "width=16", "attention_width=8", "maxout=8"),
    "luong": ("layers=2", "embedding=12", "width=16"),
}
ATTENDING = {"transformer": "decoder.layers.0.cross", "bahdanau": "decoder.cross", "luong": "decoder.cross"}
"""Families that attend, and the name of the attention to the source."""
TRAINING = (
    "steps=8",
    "validate_every=4",
    "validation_sentences=2",
    "snapshots=true",
    "average=2",
    "tokens_per_batch=96",
    "learning_rate=0.01",
    "warmup=2",
    "schedule=constant",
    'device="cpu"',
)
NEXT = [*pairwise(FAMILIES), (list(FAMILIES)[-1], next(iter(FAMILIES)))]
WORDS = ("red", "blue", "green", "old")
ROWS = [f"the {a} {b} {c}" for a in WORDS for b in WORDS for c in ("dog", "cat", "bird")]
PAIR = "the red old dog", "dog old red the"
GOLD = {(0, 3), (1, 2), (2, 1), (3, 0)}


@dataclass(frozen=True)
class Trained:
    """A run of a family, and what the command said."""

    directory: Path
    said: str

    @property
    def weights(self) -> dict[str, Tensor]:
        return unpack_weights((self.directory / "model.safetensors").read_bytes())

    @property
    def translator(self) -> Translator:
        return load_translator(self.directory, device="cpu")

    @property
    def losses(self) -> list[float]:
        return losses(self.directory)


Train = Callable[..., Trained]
"""A family, a name, and settings → its run of that name, trained if it isn't there yet."""


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    folder = tmp_path_factory.mktemp("families")
    (folder / "a.en").write_text("".join(f"{row}\n" for row in ROWS))
    (folder / "a.de").write_text("".join(f"{' '.join(reversed(row.split()))}\n" for row in ROWS))
    known: dict[str, Trained] = {}

    def train(family: str, name: str = "plain", *settings: str) -> Trained:
        out = folder / f"{family}-{name}"
        if out.name not in known:
            values = [f"model.name={family}", *(f"model.{size}" for size in SIZES[family])]
            values += ["tokenizer.kind=word", *(f"training.{value}" for value in TRAINING), *settings]
            files = ["--source", str(folder / "a.en"), "--target", str(folder / "a.de"), "--out", str(out)]
            done = CliRunner().invoke(app, ["train", *files, *(part for each in values for part in ("--set", each))])
            assert done.exit_code == 0, (done.output, done.exception)
            known[out.name] = Trained(out, " ".join(done.output.split()))
        return known[out.name]

    return train


def losses(directory: Path) -> list[float]:
    """The loss of each step."""
    events = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def test_every_family_is_here() -> None:
    assert SIZES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_interrupted_and_gone_on_with_it_ends_with_the_same_bits(train: Train, tmp_path: Path, family: str) -> None:
    whole, out = train(family), tmp_path / "run"
    recipe = read_recipe(whole.directory / "recipe.toml")

    def interrupt(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = Run(recipe, out, lambda text: None).train([interrupt, log_listener(out / "log.jsonl")])
    assert (stopped.reason, stopped.step) == ("interrupted", 3)
    gone_on = Run(recipe, out, lambda text: None).train([log_listener(out / "log.jsonl")])
    assert (gone_on.reason, gone_on.step) == ("steps", 8)
    assert losses(out) == whole.losses
    ours, theirs = (CheckpointStore(run / "checkpoints").path(8) for run in (out, whole.directory))
    for file in ("model.safetensors", "optimizer.safetensors", "random.safetensors"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    assert_same(Trained(out, "").weights, whole.weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_snapshots_are_the_weights_at_each_validation(train: Train, family: str) -> None:
    run = train(family).directory
    assert snapshot_steps(run) == [4, 8]
    for step in (4, 8):
        kept = unpack_weights(snapshot_path(run, step).read_bytes())
        assert_same(kept, load_weights(CheckpointStore(run / "checkpoints").path(step)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_words_are_of_what_can_be_done(train: Train, family: str) -> None:
    said = train(family).said
    assert "next: regard translate" in said
    assert ("regard attend" in said) is (family in ATTENDING)


@pytest.mark.parametrize("family", FAMILIES)
def test_translations_have_the_probabilities_that_score_gives(train: Train, family: str) -> None:
    translator = train(family).translator
    sources = [*ROWS[:5], "", "cat", "blue blue blue blue blue blue blue"]
    # samples, because a model that has learned little says the same of everything; some hold what is no text: <unk>
    found = translator.translate(sources, search=Sampling(), max_length=6)
    target = translator.tokenizers.target
    read = [tuple(target.pieces(target.encode(one.text))) == one.tokens for one in found]
    assert sum(read) > 3 and found[5].text == ""
    scores = translator.score(sources, [one.text for one in found])
    for one, values, same in zip(found, scores, read, strict=True):
        if same:
            assert list(one.token_log_probs) == pytest.approx(values[: len(one.token_log_probs)], abs=1e-5)
    together = translator.translate(sources, beam=3)
    for source, one in zip(sources, together, strict=True):
        alone = translator.translate([source], beam=3)[0]
        assert (alone.text, alone.log_prob) == (one.text, pytest.approx(one.log_prob, abs=1e-5))


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation(train: Train, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    translator = train(family).translator
    sources, references = ROWS[:3], [" ".join(reversed(row.split())) for row in ROWS[:3]]
    gold = [(GOLD, GOLD)] * 3
    found = evaluate(translator, sources, references, beam=1)
    assert found.alignment is None and found.likelihood is not None
    values = [value for row in translator.score(sources, references) for value in row]
    assert found.likelihood.loss == pytest.approx(-math.fsum(values) / len(values))
    if family in ATTENDING:
        judged = evaluate(translator, sources, references, beam=1, gold=gold).alignment
        assert judged is not None and (judged.sure, judged.predicted) == (12, 12)
        return

    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("it translates before it says that there is no attention")

    monkeypatch.setattr(translator, "translate", work)
    with pytest.raises(UnsupportedError, match="this model has no attention to look at: Sequence to sequence, 2"):
        evaluate(translator, sources, references, beam=1, gold=gold)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_a_map_over_the_words_or_is_said_to_be_missing(train: Train, family: str) -> None:
    translator = train(family).translator
    assert translator.attends is (family in ATTENDING)
    if family not in ATTENDING:
        with pytest.raises(UnsupportedError, match="this model has no attention to look at: Sequence to sequence, 2"):
            translator.attention(*PAIR)
        return
    attention = translator.attention(*PAIR)
    weights = attention.maps[ATTENDING[family]].dense()
    assert weights.shape[-2:] == (5, 5)  # the words and <eos>
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
    alignment = attention.alignment()
    assert (alignment.source_words, alignment.target_words) == tuple(tuple(text.split()) for text in PAIR)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_two_checkpoints_and_of_two_models(train: Train, tmp_path: Path, family: str) -> None:
    one, other = train(family), train(family, "seed", "training.seed=2")
    average_run(one.directory, last_checkpoints(one.directory, 2), tmp_path / "checkpoints")
    average_models([one.directory, other.directory], tmp_path / "models")
    parts = [load_weights(CheckpointStore(one.directory / "checkpoints").path(step)) for step in (4, 8)]
    for name, (first, second) in {"checkpoints": parts, "models": (one.weights, other.weights)}.items():
        mean = Trained(tmp_path / name, "")
        wanted = {key: ((first[key].double() + second[key].double()) / 2).float() for key in first}
        assert_same(mean.weights, wanted)
        assert len(mean.translator.translate([PAIR[0]], beam=2)) == 1


@pytest.mark.parametrize(("family", "other"), NEXT)
def test_two_families_are_mixed_but_not_averaged(train: Train, tmp_path: Path, family: str, other: str) -> None:
    runs = train(family), train(other)
    members = [run.translator for run in runs]
    both = ensemble(members, [3.0, 1.0])
    first, second = (torch.tensor(each.score([PAIR[0]], [PAIR[1]])[0]).exp() for each in members)
    assert both.score([PAIR[0]], [PAIR[1]])[0] == pytest.approx((0.75 * first + 0.25 * second).log().tolist(), abs=1e-5)
    found = both.translate([PAIR[0]], beam=2)[0]
    assert found.token_log_probs == pytest.approx(both.score([PAIR[0]], [found.text])[0][: len(found.token_log_probs)])
    with pytest.raises(CheckpointError, match=f"{other}-plain: another model than .*: {other} there, here {family}"):
        average_models([run.directory for run in runs], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(("family", "other"), NEXT)
def test_another_family_in_the_same_directory_is_another_run(train: Train, family: str, other: str) -> None:
    runs = train(family).directory, train(other).directory
    recipe = read_recipe(runs[1] / "recipe.toml")
    with pytest.raises(RecipeError, match="holds another run") as error:
        Run(recipe, runs[0], lambda text: None)
    assert f"it differs in model.name: {family!r} → {other!r}. Choose" in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_and_recomputing_reach_the_same_loss(train: Train, family: str) -> None:
    plain = train(family).losses
    assert plain[-1] < plain[0] - 0.1
    recomputed = train(family, "recomputed", "training.gradient_checkpointing=true").losses
    assert recomputed == plain
    half = train(family, "half", "training.precision=bfloat16").losses
    assert half == pytest.approx(plain, abs=0.02)
    assert half != plain
    both = train(family, "both", "training.precision=bfloat16", "training.gradient_checkpointing=true").losses
    assert both == half
