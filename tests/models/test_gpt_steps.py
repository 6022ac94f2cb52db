"""Step-wise generation of GPTs equals reading everything at once, whatever the prompts and whatever is selected."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regard.attention import Document
from regard.errors import ArgumentError
from regard.models import gpt
from regard.models.gpt import GPT, GPTConfig, build_gpt

VOCABULARY = 13
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt": {},
    "gpt-sinusoidal-grouped": {"positions": "sinusoidal", "key_heads": 1, "bias": "none"},
    "llama": {"norm": "rms", "positions": "rotary", "feedforward_kind": "gated", "activation": "silu", "key_heads": 2},
    "llama-wide-heads": {"positions": "rotary", "key_heads": 2, "head_width": 6, "shared": False, "bias": "none"},
}
variants = pytest.mark.parametrize("variant", VARIANTS)
MODELS: dict[str, GPT] = {}


def build(variant: str, **more: Any) -> GPT:
    torch.manual_seed(0)
    sizes = {"layers": 2, "width": 16, "feedforward": 11, "heads": 4, "max_length": 29, "rotary_base": 100.0}
    model = build_gpt(GPTConfig(vocabulary=VOCABULARY, **(sizes | VARIANTS[variant] | more)))
    for name, parameter in model.named_parameters():  # fresh ones are too small to show mistakes
        torch.nn.init.normal_(parameter, 1.0 if "norm.weight" in name else 0.0, 0.4)
    return model.double().eval()


def model_of(variant: str) -> GPT:
    if variant not in MODELS:
        MODELS[variant] = build(variant)
    return MODELS[variant]


def texts(*lengths: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (n,), generator=generator) for n in lengths]


def alone(model: GPT, text: Tensor) -> Tensor:
    """Log-probabilities after each token of one text (L,): (L, V)."""
    log_probs: Tensor = model.output(model(text[None])).log_softmax(-1)[0]
    return log_probs


def padded(rows: list[Tensor], junk: int = 0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    table = torch.full((len(rows), int(lengths.max())), junk)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table, lengths


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@torch.no_grad()
@settings(max_examples=40, deadline=None)
@given(
    variant=st.sampled_from(list(VARIANTS)),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    width=st.integers(1, 3),
    steps=st.integers(1, 9),
    chunk=st.integers(1, 10),
    extra=st.integers(0, 2),
    seed=st.integers(0, 10_000),
)
def test_steps_equal_reading_at_once(
    variant: str, lengths: list[int], width: int, steps: int, chunk: int, extra: int, seed: int
) -> None:
    """Ragged prompts, any chunks, hypotheses selected as a beam search does, sentences that leave."""
    model, generator = model_of(variant), torch.Generator().manual_seed(seed)
    prompts, _ = padded([*texts(*lengths, seed=seed)])
    prompts = torch.cat([prompts, torch.full((len(lengths), extra), 5)], 1)
    before = gpt.PROMPT_CHUNK
    gpt.PROMPT_CHUNK = chunk
    try:
        state = model.start(prompts, torch.tensor(lengths))
    finally:
        gpt.PROMPT_CHUNK = before
    assert state.position == max(lengths)
    history = [prompt[:n] for prompt, n in zip(prompts, lengths, strict=True)]
    sentences = len(lengths)
    for number in range(steps):
        if number == 1 and width > 1:  # after the first step a search widens
            rows = torch.arange(sentences).repeat_interleave(width)
            state, history = state.select_hypotheses(rows), [history[i] for i in rows]
        tokens = torch.randint(0, VOCABULARY, (len(history),), generator=generator)
        history = [torch.cat([text, token[None]]) for text, token in zip(history, tokens, strict=True)]
        log_probs, state = model.step(tokens, state)
        for found, text in zip(log_probs, history, strict=True):
            near(found, alone(model, text)[-1])
        wide = len(history) // sentences
        parents = torch.randint(0, wide, (sentences, wide), generator=generator)
        if sentences > 1 and number % 3 == 2:  # a sentence leaves, the others change places
            rows = torch.randperm(sentences, generator=generator)[: sentences - 1]
            state, parents, sentences = state.select_sentences(rows), parents[rows], sentences - 1
            chosen = (parents + rows[:, None] * wide).flatten()
        else:
            chosen = (parents + torch.arange(sentences)[:, None] * wide).flatten()
        state, history = state.select_hypotheses(chosen), [history[i] for i in chosen]
        assert len(state.sentence["lengths"]) == sentences


@torch.no_grad()
@settings(max_examples=30, deadline=None)
@given(
    variant=st.sampled_from(list(VARIANTS)),
    rows=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
)
def test_packed_texts_equal_texts_alone(variant: str, rows: list[list[int]], seed: int) -> None:
    """Rows of several texts with `Document` masks and positions that begin anew; padding belongs to no text."""
    model = model_of(variant)
    packed = [texts(*lengths, seed=seed + i) for i, lengths in enumerate(rows)]
    tokens, _ = padded([torch.cat(row) for row in packed])
    ids, positions = torch.full(tokens.shape, -1), torch.zeros_like(tokens)
    for row, lengths in enumerate(rows):
        ids[row, : sum(lengths)] = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        positions[row, : sum(lengths)] = torch.cat([torch.arange(n) for n in lengths])
    log_probs = model.output(model(tokens, Document(ids), positions)).log_softmax(-1)
    assert bool(log_probs.isfinite().all())
    for row, found in zip(packed, log_probs, strict=True):
        near(found[: sum(map(len, row))], torch.cat([alone(model, text) for text in row]))


@torch.no_grad()
@variants
def test_what_stands_after_a_text_does_not_matter(variant: str) -> None:
    model, rows = model_of(variant), texts(5, 9, 2)
    tokens, _ = padded(rows, junk=7)
    for found, text in zip(model.output(model(tokens)).log_softmax(-1), rows, strict=True):
        near(found[: len(text)], alone(model, text))


@torch.no_grad()
@variants
def test_what_comes_later_is_not_seen(variant: str) -> None:
    model, (text,) = model_of(variant), texts(9)
    changed = text.clone()
    changed[6:] = (changed[6:] + 1) % VOCABULARY
    a, b = model(text[None])[0], model(changed[None])[0]
    near(a[:6], b[:6])
    assert not torch.allclose(a[6:], b[6:], atol=1e-3)
    swapped = text[[1, 0, *range(2, 9)]]
    assert not torch.allclose(a[2:], model(swapped[None])[0, 2:], atol=1e-3)  # positions matter


@torch.no_grad()
def test_the_state() -> None:
    model = build("llama")
    prompts, lengths = padded(texts(3, 0, 2))
    state = model.start(prompts, lengths)
    assert state.position == 3 and state.hypothesis["first"].tolist() == [0, 3, 1]
    assert state.hypothesis["cache"].shape == (3, 2, 2, 2, 3, 4)  # prompts, layers, k and v, groups, positions, D
    assert state.sentence["lengths"].tolist() == [3, 0, 2]
    sizes = []
    for _ in range(20):
        log_probs, state = model.step(torch.tensor([1, 2, 3]), state)
        near(log_probs.exp().sum(-1), torch.ones(3, dtype=torch.float64))
        sizes.append(state.hypothesis["cache"].shape[4])
    assert sizes == [19] * 16 + [35] * 4
    alike = model.start(prompts[:, :2], torch.tensor([2, 2, 2]))
    assert set(alike.hypothesis) == {"cache"}  # where all are as long, nothing has to be masked
    nothing = model.start(prompts[:, :0], torch.zeros(3, dtype=torch.int64))
    assert nothing.position == 0 and nothing.hypothesis["cache"].shape[4] == 0


@torch.no_grad()
def test_two_continuations_do_not_touch_each_other() -> None:
    model, (text,) = build("gpt"), texts(4)
    state = model.start(text[None], torch.tensor([4]))
    left, right = (state.select_hypotheses(torch.tensor([0])) for _ in range(2))
    _, left = model.step(torch.tensor([2]), left)
    _, right = model.step(torch.tensor([5]), right)
    found, _ = model.step(torch.tensor([8]), left)
    near(found[0], alone(model, torch.cat([text, torch.tensor([2, 8])]))[-1])


@torch.no_grad()
@pytest.mark.parametrize("variant", ["gpt", "gpt-sinusoidal-grouped"])
def test_past_the_last_position(variant: str) -> None:
    model = build(variant, max_length=6)
    long, short = texts(7, 4)
    with pytest.raises(ArgumentError, match="position 6 is past the last one, 5"):
        model(long[None])
    with pytest.raises(ArgumentError, match="position 6: expected 0 to 5"):
        model(long[None], positions=torch.arange(7))
    with pytest.raises(ArgumentError, match="position 6 is past the last one, 5"):
        model.start(long[None], torch.tensor([7]))
    state = model.start(*padded([long[:6], short]))
    with pytest.raises(ArgumentError, match="position 6: expected 0 to 5"):
        model.step(torch.tensor([1, 1]), state)
    # the longest leaves: the other one goes on
    rest = state.select_sentences(torch.tensor([1])).select_hypotheses(torch.tensor([1]))
    found, _ = model.step(torch.tensor([1]), rest)
    near(found[0], alone(model, torch.cat([short, torch.tensor([1])]))[-1])


@torch.no_grad()
def test_turned_positions_have_no_last_one() -> None:
    model, (text,) = build("llama", max_length=6), texts(9)
    state = model.start(text[None, :-1], torch.tensor([8]))
    near(model.step(text[-1:], state)[0][0], alone(model, text)[-1])


def test_prompts_that_do_not_fit() -> None:
    model = model_of("gpt")
    table = torch.zeros(2, 3, dtype=torch.int64)
    for lengths in ([1, 4], [-1, 2], [1], [1, 2, 3]):
        with pytest.raises(ArgumentError, match=r"lengths are .*: expected 2 from 0 to 3"):
            model.start(table, torch.tensor(lengths))
    for wrong in (table[0], table.float(), table.bool()):
        with pytest.raises(ArgumentError, match=r"prompts is .*: expected integers \(B, L\)"):
            model.start(wrong, torch.tensor([1, 2]))
        with pytest.raises(ArgumentError, match=r"tokens is .*: expected integers \(B, L\)"):
            model(wrong)
