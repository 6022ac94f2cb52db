"""Language models small enough for every test: random weights, far from uniform, with tokenizers of each kind."""

from collections import Counter
from pathlib import Path

import torch
from torch import nn

from regard.data import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.models.gpt import GPT, GPTConfig, build_gpt
from regard.runs.directory import write_model
from regard.runs.language_model import LanguageModel

POSITIONS = 24
TEXT = (
    "The tired dog sleeps in the shade of the old house.\nTwo cats play near the door, and the dog dreams of them.\n"
    "Später schläft auch die Katze: naïve Füße, 猫 und 🐕.\n\nThe end of the day is the end of the play.\n"
)


def small_tokenizer(kind: str) -> Tokenizer:
    return train_tokenizer(kind, [TEXT], 300, strip=False)  # type: ignore[arg-type]


def small_gpt(vocabulary: int, preset: str = "gpt-nano", seed: int = 3, spread: float = 0.3) -> GPT:
    config = GPTConfig.preset(
        preset, vocabulary=vocabulary, layers=2, width=16, feedforward=24, heads=4, max_length=POSITIONS, shared=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_gpt(config)
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, spread)
    return model.eval()


def small_language_model(
    kind: str = "bpe", *, begin: bool = True, ends: int = 1, preset: str = "gpt-nano", padding: int = 0
) -> LanguageModel:
    """A model whose texts end now and then.

    Args:
        kind: of the tokenizer.
        begin: whether it has a start symbol.
        ends: how many end symbols it has.
        preset: of the model.
        padding: rows of its table that are no tokens.
    """
    tokenizer = small_tokenizer(kind)
    model = small_gpt(tokenizer.vocab_size + padding, preset)
    first = tokenizer.bos_id if begin else None
    free = LanguageModel(model, tokenizer, first, ()).generate(["The dog", "Two", "e"], samples=4, max_tokens=20)
    said = Counter(token for one in free for token in one.ids)
    end = tuple(token for token, _ in said.most_common()[4 : 4 + ends])  # said now and then, not all the time
    return LanguageModel(model, tokenizer, first, end)


def save(language_model: LanguageModel, directory: Path, **generation: object) -> Path:
    """The directory of a model, as training writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    language_model.tokenizer.save(directory / "tokenizer.json")
    model = language_model.model
    said = {"begin": language_model.begin, "end": list(language_model.end), **generation}
    write_model(directory, "language_modelling", model.config, model.state_dict(), {"generation": said})
    return directory
