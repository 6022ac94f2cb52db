"""Small random models for the tests of exports, and what they should say."""

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regard.data import Tokenizer, train_tokenizer
from regard.models.encoder_decoder import EncoderDecoder
from regard.models.gpt import GPT

SOURCES = ["one dog sleeps", "two cats", "today two dogs play", "a", "today one cat sleeps and one dog plays"]
TARGETS = ["ein Hund schläft", "zwei Katzen", "heute spielen zwei Hunde", "eine Katze, ein Hund"]


def letters(texts: Sequence[str]) -> Tokenizer:
    """A tokenizer of few tokens, so that random models end now and then."""
    return train_tokenizer("char", texts, 60)


def shaken(model: nn.Module, spread: float = 0.3, seed: int = 0) -> None:
    """Weights that differ from each other and from the fresh ones, biases and gains too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)


def log_probs_of(model: EncoderDecoder, source: Sequence[int], target: Sequence[int]) -> Tensor:
    """Log-probabilities of each token of a target after those before it, bos = 1 and eos = 2."""
    hidden = model(torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([[1, *target]]))
    return model.output(hidden)[0].log_softmax(-1).gather(1, torch.tensor([*target, 2])[:, None])[:, 0].detach()


def next_log_probs(model: GPT, tokens: Sequence[int]) -> Tensor:
    """Log-probabilities (V,) of the token after some."""
    return model.output(model(torch.tensor([tokens]))[0, -1]).log_softmax(-1).detach()


def run_readme(directory: Path, monkeypatch: pytest.MonkeyPatch, **instead: str) -> list[str]:
    """What the program in a directory's README prints, run there; `instead` are texts to put in for others."""
    found = re.findall(r"```python\n(.*?)```", (directory / "README.md").read_text("utf-8"), re.DOTALL)
    [code] = found
    for old, new in instead.items():
        assert old in code
        code = code.replace(old, new)
    monkeypatch.chdir(directory)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue().splitlines()
