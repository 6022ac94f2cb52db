"""A model small enough for every test: one layer, width 16, taught a dozen sentences in a second or two."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from regard.data import train_tokenizer
from regard.models.transformer import TransformerConfig, build_transformer
from regard.runs.directory import Tokenizers, save_model
from regard.runs.translator import specials_of
from regard.tasks.translation import collate, translation_loss

# The same examples in each run, so that a run can be compared with the last; REGARD_FUZZ=1 draws others every time.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile("random" if os.environ.get("REGARD_FUZZ") else "fixed")

PAIRS = (
    ("one dog sleeps", "ein Hund schläft"),
    ("two dogs sleep", "zwei Hunde schlafen"),
    ("one cat sleeps", "eine Katze schläft"),
    ("two cats sleep", "zwei Katzen schlafen"),
    ("one dog plays", "ein Hund spielt"),
    ("two dogs play", "zwei Hunde spielen"),
    ("one cat plays", "eine Katze spielt"),
    ("two cats play", "zwei Katzen spielen"),
    ("today one dog sleeps", "heute schläft ein Hund"),
    ("today two cats play", "heute spielen zwei Katzen"),
    ("today one cat plays", "heute spielt eine Katze"),
)
MAX_LENGTH = 37
DECODING = {"beam": 3, "penalty": "average", "alpha": 1.0, "max_ratio": 2.0}


@dataclass(frozen=True)
class TinyModel:
    """A model directory, the pairs it has learned, and the most tokens it takes."""

    directory: Path
    pairs: tuple[tuple[str, str], ...]
    max_tokens: int

    @property
    def sources(self) -> list[str]:
        return [source for source, _ in self.pairs]

    @property
    def targets(self) -> list[str]:
        return [target for _, target in self.pairs]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and several test processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A trained model with a joint BPE tokenizer."""
    directory = tmp_path_factory.mktemp("tiny-model")
    joint = train_tokenizer("bpe", [text for pair in PAIRS for text in pair], 331)
    tokenizers = Tokenizers(joint, joint)
    tokenizers.save(directory)
    size = joint.vocab_size
    config = TransformerConfig(size, size, 1, 1, 16, 32, 2, dropout=0.0, max_length=MAX_LENGTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build_transformer(config)
    specials = specials_of(tokenizers)
    sides = [[joint.encode(pair[side]) for pair in PAIRS] for side in (0, 1)]
    batch = collate(*sides, specials, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss, count = translation_loss(model, batch, 0.0)
        (loss / count).backward()
        optimizer.step()
    save_model(directory, config, model.state_dict(), DECODING)
    return TinyModel(directory, PAIRS, MAX_LENGTH - 1)
