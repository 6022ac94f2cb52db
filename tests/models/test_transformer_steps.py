"""Step-wise decoding with a cache equals the teacher-forced forward, whatever is selected in between."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.layers import State
from regard.models import transformer
from regard.models.transformer import Transformer, TransformerConfig, build_transformer

S, K = 3, 7
VOCABULARY = 13
CONFIG = TransformerConfig(
    source_vocabulary=VOCABULARY,
    target_vocabulary=VOCABULARY,
    encoder_layers=1,
    decoder_layers=2,
    width=12,
    feedforward=11,
    heads=6,
    max_length=23,
)
VARIANTS: list[dict[str, Any]] = [
    {"norm": norm, "positions": positions, "key_heads": key_heads, "shared": shared}
    for norm, positions, key_heads, shared in product(
        ["post", "pre"], ["sinusoidal", "learned"], [None, 2], ["all", "target", "none"]
    )
] + [
    {"positions": "learned", "embedding_norm": True, "embedding_scale": False, "output_bias": True},
    {"norm": "pre", "positions": "tensor2tensor", "activation": "gelu_tanh", "output_bias": True},
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()))


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cache grow several times, at odd places."""
    monkeypatch.setattr(transformer, "CACHE_STEP", 3)


def build(**variant: Any) -> Transformer:
    torch.manual_seed(0)
    model = build_transformer(replace(CONFIG, **variant)).double().eval()
    if model.output.bias is not None:
        torch.nn.init.normal_(model.output.bias)
    return model


def sources() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, VOCABULARY, (S, K), generator=generator), torch.tensor([7, 2, 5])


def forced(model: Transformer, source: Tensor, lengths: Tensor, history: Tensor) -> Tensor:
    """Log-probabilities after the last token of each history (N, t), all positions computed anew."""
    width = history.shape[0] // source.shape[0]
    hidden = model(source.repeat_interleave(width, 0), lengths.repeat_interleave(width), history)
    logits: Tensor = model.output(hidden[:, -1])
    return logits.log_softmax(-1)


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@torch.no_grad()
@variants
def test_one_hypothesis(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths = sources()
    target = torch.randint(0, VOCABULARY, (S, 11), generator=torch.Generator().manual_seed(2))
    log_probs = model.output(model(source, lengths, target)).log_softmax(-1)
    state = model.start(source, lengths)
    assert state.position == 0
    for t in range(11):
        step, state = model.step(target[:, t], state)
        assert step.shape == (S, VOCABULARY) and state.position == t + 1
        assert_same(step, log_probs[:, t])


@torch.no_grad()
@variants
def test_three_hypotheses_with_selections(variant: dict[str, Any]) -> None:
    model = build(**variant)
    source, lengths = sources()
    generator = torch.Generator().manual_seed(3)
    state = model.start(source, lengths)
    history = torch.ones(S, 1, dtype=torch.int64)
    log_probs, state = model.step(history[:, -1], state)
    assert_same(log_probs, forced(model, source, lengths, history))
    width = 3
    widened = torch.arange(S).repeat_interleave(width)
    state, history = state.select_hypotheses(widened), history[widened]
    for t in range(9):
        sentences = source.shape[0]
        tokens = torch.randint(0, VOCABULARY, (sentences * width,), generator=generator)
        history = torch.cat([history, tokens[:, None]], 1)
        log_probs, state = model.step(tokens, state)
        assert_same(log_probs, forced(model, source, lengths, history))
        assert state.sentence["memory"].shape[0] == sentences
        # each hypothesis continues any one of its sentence
        parents = torch.randint(0, width, (sentences, width), generator=generator)
        parents = (parents + torch.arange(sentences)[:, None] * width).flatten()
        state, history = state.select_hypotheses(parents), history[parents]
        if t in (3, 5):  # a sentence leaves and the others change places
            rows = torch.tensor([2, 0] if t == 3 else [1])
            members = (rows[:, None] * width + torch.arange(width)).flatten()
            state = state.select_sentences(rows).select_hypotheses(members)
            source, lengths, history = source[rows], lengths[rows], history[members]


@torch.no_grad()
def test_two_continuations_of_a_state_do_not_touch_each_other() -> None:
    model = build()
    source, lengths = sources()
    _, state = model.step(torch.tensor([1, 1, 1]), model.start(source, lengths))
    same = torch.arange(S)
    left, right = state.select_hypotheses(same), state.select_hypotheses(same)
    _, left = model.step(torch.tensor([2, 3, 4]), left)
    _, right = model.step(torch.tensor([5, 6, 7]), right)
    log_probs, _ = model.step(torch.tensor([8, 8, 8]), left)
    assert_same(log_probs, forced(model, source, lengths, torch.tensor([[1, 2, 8], [1, 3, 8], [1, 4, 8]])))


@torch.no_grad()
def test_what_the_state_holds() -> None:
    model = build(key_heads=2)
    source, lengths = sources()
    state = model.start(source, lengths)
    assert isinstance(state, State)
    assert state.sentence["memory"].shape == (S, 2, 2, 2, K, 2)  # sentences, layers, k and v, groups, keys, width
    assert torch.equal(state.sentence["lengths"], lengths)
    sizes = []
    for _ in range(7):
        _, state = model.step(torch.tensor([1, 2, 3]), state)
        sizes.append(state.hypothesis["cache"].shape[4])
    assert sizes == [3, 3, 3, 6, 6, 6, 9]


@torch.no_grad()
def test_probabilities_sum_to_one_and_batches_do_not_matter() -> None:
    model = build()
    source, lengths = sources()
    whole, _ = model.step(torch.tensor([1, 2, 3]), model.start(source, lengths))
    assert_same(whole.exp().sum(-1), torch.ones(S, dtype=torch.float64))
    for i, n in enumerate(lengths.tolist()):
        state = model.start(source[i : i + 1, :n], lengths[i : i + 1])
        alone, _ = model.step(torch.tensor([i + 1]), state)
        assert_same(whole[i : i + 1], alone)


@torch.no_grad()
def test_a_step_past_the_last_position_is_an_error() -> None:
    model = build(max_length=7)
    source, lengths = sources()
    state = model.start(source, lengths)
    for _ in range(7):
        _, state = model.step(torch.tensor([1, 2, 3]), state)
    with pytest.raises(ArgumentError, match="position 7 is past the last one, 6"):
        model.step(torch.tensor([1, 2, 3]), state)
