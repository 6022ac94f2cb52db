"""BERT and its heads with Hugging Face's weights: the same logits and gradients; the papers' sizes."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from regard.attention import Document
from regard.models.bert import (
    BERTConfig,
    build_bert,
    build_classifier,
    build_masked_language_model,
    build_tagger,
)
from regard.models.config import parameter_count

CONFIG = BERTConfig(
    vocabulary=31, layers=3, width=24, feedforward=50, heads=4, types=3, norm_epsilon=1e-4, max_length=23
)
# without 0, whose vector learns nothing there
TOKENS = torch.randint(1, 31, (3, 17), generator=torch.Generator().manual_seed(1))
TYPES = torch.randint(0, 3, (3, 17), generator=torch.Generator().manual_seed(2))
LENGTHS = torch.tensor([11, 17, 6])
REAL = torch.arange(17) < LENGTHS[:, None]

WITH_POOLER = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}


@pytest.mark.parametrize("preset", BERTConfig.PRESETS)
def test_the_presets_have_the_sizes_of_the_papers(preset: str) -> None:
    config = BERTConfig.preset(preset, vocabulary=30522)
    with torch.device("meta"):
        model = build_masked_language_model(config, next_sentence=True)
    assert parameter_count(model.encoder) + parameter_count(model.pooler or nn.Identity()) == WITH_POOLER[preset]
    # the head's transformation and norm, a bias for each token, and two sentences: Hugging Face's BertForPreTraining
    head = config.width * (config.width + 3) + config.vocabulary + 2 * (config.width + 1)
    assert parameter_count(model) == WITH_POOLER[preset] + head


def theirs_config(**more: Any) -> Any:
    return transformers.BertConfig(
        vocab_size=31, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=50,
        max_position_embeddings=23, type_vocab_size=3, layer_norm_eps=1e-4, **more,
    )  # fmt: skip


def encoder_weights(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the encoder, with "encoder." in front."""
    ours = {
        "encoder.embedding.tokens.weight": theirs["bert.embeddings.word_embeddings.weight"],
        "encoder.embedding.positions.table": theirs["bert.embeddings.position_embeddings.weight"],
        "encoder.embedding.types.weight": theirs["bert.embeddings.token_type_embeddings.weight"],
    }
    names = {
        "attention.output": "attention.output.dense",
        "attention_residual.norm": "attention.output.LayerNorm",
        "feedforward.inner": "intermediate.dense",
        "feedforward.outer": "output.dense",
        "feedforward_residual.norm": "output.LayerNorm",
    }
    for part in ("weight", "bias"):
        ours[f"encoder.embedding.norm.{part}"] = theirs[f"bert.embeddings.LayerNorm.{part}"]
        for i in range(CONFIG.layers):
            for ours_name, name in names.items():
                ours[f"encoder.layers.{i}.{ours_name}.{part}"] = theirs[f"bert.encoder.layer.{i}.{name}.{part}"]
            each = [theirs[f"bert.encoder.layer.{i}.attention.self.{x}.{part}"] for x in ("query", "key", "value")]
            ours[f"encoder.layers.{i}.attention.input.{part}"] = torch.cat(each)
    return ours


HEADS: dict[str, dict[str, str]] = {
    "masked": {
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "output": "cls.predictions.decoder",
    },
    "classifier": {"pooler": "bert.pooler.dense", "output": "classifier"},
    "tagger": {"output": "classifier"},
}
HEADS["pretraining"] = HEADS["masked"] | {"pooler": "bert.pooler.dense", "next_sentence": "cls.seq_relationship"}
MODELS: dict[str, tuple[Any, Any]] = {
    "masked": (transformers.BertForMaskedLM, lambda: build_masked_language_model(CONFIG)),
    "pretraining": (transformers.BertForPreTraining, lambda: build_masked_language_model(CONFIG, next_sentence=True)),
    "classifier": (transformers.BertForSequenceClassification, lambda: build_classifier(CONFIG, 5)),
    "tagger": (transformers.BertForTokenClassification, lambda: build_tagger(CONFIG, 5)),
}
cases = pytest.mark.parametrize("case", MODELS)


def pair(case: str) -> tuple[Any, Any]:
    make, build = MODELS[case]
    torch.manual_seed(0)
    theirs = make(theirs_config(num_labels=5))
    for name, parameter in theirs.named_parameters():  # fresh biases and norms would hide mistakes
        nn.init.normal_(parameter, 1.0 if "LayerNorm" in name else 0.0, 0.2)
    ours = build().eval()
    weights = renamed(case, theirs.state_dict())
    ours.load_state_dict(weights)  # every name is met, none is left over
    assert parameter_count(ours) == parameter_count(theirs)
    return theirs.eval(), ours


def renamed(case: str, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    head = {f"{a}.{part}": theirs[f"{b}.{part}"] for a, b in HEADS[case].items() for part in ("weight", "bias")}
    return encoder_weights(theirs) | head


def logits_of(ours: Any, case: str) -> Tensor:
    y: Tensor = ours(TOKENS, LENGTHS, TYPES)
    return ours.output(y) if case in ("masked", "pretraining") else y


@cases
def test_same_weights_same_logits(case: str) -> None:
    theirs, ours = pair(case)
    with torch.no_grad():
        answer = theirs(TOKENS, attention_mask=REAL.long(), token_type_ids=TYPES)
        expected = answer.prediction_logits if case == "pretraining" else answer.logits
        found = logits_of(ours, case)
        if case == "pretraining":
            following = ours.following(ours.encoder(TOKENS, LENGTHS, TYPES))
            torch.testing.assert_close(following, answer.seq_relationship_logits, atol=1e-5, rtol=0)
    assert expected.std() > 0.1
    if expected.ndim == 3:
        found, expected = found[REAL], expected[REAL]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@cases
def test_same_gradients(case: str) -> None:
    theirs, ours = (x.double() for x in pair(case))
    answer = theirs(TOKENS, attention_mask=REAL.long(), token_type_ids=TYPES)
    expected = answer.prediction_logits if case == "pretraining" else answer.logits
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if expected.ndim == 3:
        weights = weights * REAL[..., None]
    (expected * weights).sum().backward()
    (logits_of(ours, case) * weights).sum().backward()
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in theirs.named_parameters(remove_duplicate=False)
    }
    wanted = renamed(case, gradients)
    for name, parameter in ours.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, wanted[name], atol=1e-9, rtol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_segments_and_positions_begin_at_zero_unless_given() -> None:
    _, ours = pair("masked")
    zeros = torch.zeros_like(TOKENS)
    torch.testing.assert_close(ours(TOKENS, LENGTHS), ours(TOKENS, LENGTHS, zeros), atol=1e-6, rtol=0)
    counted = torch.arange(17).expand(3, 17)
    torch.testing.assert_close(ours(TOKENS, LENGTHS), ours(TOKENS, LENGTHS, None, None, counted), atol=1e-6, rtol=0)
    other = torch.ones_like(TOKENS)
    assert not torch.allclose(ours(TOKENS, LENGTHS), ours(TOKENS, LENGTHS, other), atol=1e-2)
    assert not torch.allclose(ours(TOKENS, LENGTHS), ours(TOKENS, LENGTHS, None, None, counted + 3), atol=1e-2)


@torch.no_grad()
def test_padding_and_packing_do_not_matter() -> None:
    torch.manual_seed(0)
    model = build_bert(CONFIG).double().eval()
    texts = [TOKENS[row, :n] for row, n in enumerate(LENGTHS.tolist())]
    each = [model(text[None], torch.tensor([len(text)]))[0] for text in texts]
    for found, expected, n in zip(model(TOKENS, LENGTHS), each, LENGTHS.tolist(), strict=True):
        torch.testing.assert_close(found[:n], expected, atol=1e-12, rtol=0)
    packed = torch.cat([texts[0], texts[2]])[None]
    ids = torch.tensor([[0] * 11 + [1] * 6])
    places = torch.tensor([[*range(11), *range(6)]])
    found = model(packed, torch.tensor([17]), None, Document(ids), places)[0]
    torch.testing.assert_close(found, torch.cat([each[0], each[2]]), atol=1e-12, rtol=0)
