"""Models of one text with random weights, and tokenizers, for tests that need them with what runs them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from regard.data import train_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.models.bert import BERTConfig, build_classifier, build_masked_language_model, build_tagger
from regard.models.gpt import GPTConfig, build_gpt
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.masked_model import MaskedModel

TEXT = "the tired dog sleeps in the shade of the old house\ntwo cats play near the door and the dog dreams of them\n"
POSITIONS = 24
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"beam": 1},
    "beam": {"beam": 3},
    "samples": {"samples": 2, "seed": 5},
}


def tokenizer() -> Tokenizer:
    return train_tokenizer("char", [TEXT], 300, strip=False)


def randomised(model: Any) -> Any:
    """Weights far from fresh ones, so that attention is far from even."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.3)
    return model.eval()


def language_model(preset: str) -> LanguageModel:
    known = tokenizer()
    config = GPTConfig.preset(
        preset, vocabulary=known.vocab_size, layers=2, width=16, feedforward=24, heads=4, max_length=POSITIONS
    )
    return LanguageModel(randomised(build_gpt(config)), known, known.bos_id, (known.eos_id,))


def _bert(vocabulary: int) -> BERTConfig:
    return BERTConfig(vocabulary=vocabulary, layers=2, width=16, feedforward=24, heads=4, max_length=POSITIONS)


def masked_model() -> MaskedModel:
    known = tokenizer()
    model = randomised(build_masked_language_model(_bert(known.vocab_size + 1)))
    return MaskedModel(model, known, known.vocab_size)


def classifier() -> Classifier:
    known = tokenizer()
    return Classifier(randomised(build_classifier(_bert(known.vocab_size), 2)), known, ["good", "bad"])


def tagger() -> Tagger:
    known = tokenizer()
    return Tagger(randomised(build_tagger(_bert(known.vocab_size), 3)), known, ["N", "V", "O"])


ENCODERS: dict[str, Callable[[], Any]] = {"masked": masked_model, "classifier": classifier, "tagger": tagger}
