"""The self-attention block, its cache, and feed-forward networks with and without a gate, by their formulas."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.attention import AttentionMap, Causal, Padding
from regard.errors import ArgumentError
from regard.layers import (
    ACTIVATIONS,
    FeedForward,
    GatedFeedForward,
    MultiHeadAttention,
    PostNorm,
    PreNorm,
    RotaryPositions,
    SelfAttentionBlock,
    Since,
    TokenEmbedding,
    grown,
)
from regard.layers.positions import LearnedPositions


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


FORMULAS: dict[str, Any] = {
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("bias", [True, False])
def test_feedforward_networks_are_their_formulas(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    assert set(ACTIVATIONS) == set(FORMULAS)
    plain, gated = (kind(5, 11, name, bias).double() for kind in (FeedForward, GatedFeedForward))
    x, a = normal(2, 3, 5), FORMULAS[name]
    for layer in (plain, gated):
        assert {n.rpartition(".")[2] for n, _ in layer.named_parameters()} == (
            {"weight", "bias"} if bias else {"weight"}
        )

    def product(layer: nn.Linear, y: Tensor) -> Tensor:
        return y @ layer.weight.T + (layer.bias if bias else 0)

    near(plain(x), product(plain.outer, a(product(plain.inner, x))))
    near(gated(x), product(gated.outer, a(product(gated.gate, x)) * product(gated.inner, x)))


def test_an_activation_that_is_not_there() -> None:
    for kind in (FeedForward, GatedFeedForward):
        with pytest.raises(ArgumentError, match="activation is 'swish': expected gelu, gelu_tanh, relu, silu"):
            kind(5, 11, "swish")


@pytest.mark.parametrize("kind", [PreNorm, PostNorm])
def test_a_norm_of_ones_choice(kind: type[PreNorm] | type[PostNorm]) -> None:
    layer, x = kind(7, 0.0, nn.RMSNorm(7, 1e-3)).double(), 3 * normal(2, 5, 7) + 1
    with torch.no_grad():
        layer.norm.weight.copy_(normal(7, seed=2))  # type: ignore[operator]

    def norm(y: Tensor) -> Tensor:
        weight: Any = layer.norm.weight
        return y / (y.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight

    near(layer(x, torch.tanh), x + torch.tanh(norm(x)) if kind is PreNorm else norm(x + torch.tanh(x)))


def block(kind: type[PreNorm] | type[PostNorm]) -> SelfAttentionBlock:
    torch.manual_seed(0)
    residuals = [kind(12, 0.0, norm) for norm in (nn.LayerNorm(12), nn.RMSNorm(12, 1e-5))]
    layer = SelfAttentionBlock(MultiHeadAttention(12, 6, key_heads=2, head_width=4), FeedForward(12, 9), residuals)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    return layer.double()


@pytest.mark.parametrize("kind", [PreNorm, PostNorm])
def test_a_block_is_its_formula(kind: type[PreNorm] | type[PostNorm]) -> None:
    layer, x, mask = block(kind), normal(2, 5, 12), Padding(torch.tensor([5, 3]))
    first, second = layer.attention_residual.norm, layer.feedforward_residual.norm
    if kind is PreNorm:
        y = x + layer.attention(first(x), mask=mask)
        expected = y + layer.feedforward(second(y))
    else:
        y = first(x + layer.attention(x, mask=mask))
        expected = second(y + layer.feedforward(y))
    near(layer(x, mask), expected)
    turns = RotaryPositions(4)(torch.arange(5), torch.float64)
    assert not torch.allclose(layer(x, mask, turns), expected, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 4], [1, 5, 1]])
@pytest.mark.parametrize("turned", [False, True])
def test_a_cache_equals_the_whole(pieces: list[int], turned: bool) -> None:
    layer, x, rotary = block(PreNorm), normal(3, 7, 12), RotaryPositions(4)
    cache, position, parts = normal(3, 2, 2, 9, 4, seed=5), 0, []  # what isn't filled is anything
    for piece in x.split(pieces, 1):
        turns = rotary(torch.arange(position, position + piece.shape[1]), x.dtype) if turned else None
        parts.append(layer.extend(piece, cache, position, Causal(), turns))
        position += piece.shape[1]
    whole = layer(x, Causal(), rotary(torch.arange(7), x.dtype) if turned else None)
    near(torch.cat(parts, 1), whole)


def test_a_cache_grows_seldom() -> None:
    cache, sizes = normal(2, 3, 0, 4), []
    for needed in range(1, 400):
        filled = cache[..., : needed - 1, :].clone()
        cache = grown(cache, needed)
        assert cache.shape[:2] == (2, 3) and cache.shape[2] >= needed
        assert torch.equal(cache[..., : needed - 1, :], filled)
        sizes.append(cache.shape[2])
    assert len(set(sizes)) < 20 and sizes[-1] < 400 * 1.15


def test_since_is_padding_at_the_beginning() -> None:
    q, k = normal(3, 2, 4, 6), normal(3, 2, 7, 6, seed=2)
    first = torch.tensor([0, 5, 7])
    table = AttentionMap(q, k, mask=Since(first)).dense()
    for row, n in enumerate(first.tolist()):
        assert bool((table[row, :, :, :n] == 0).all())
        alone = AttentionMap(q[row, :, :], k[row, :, n:]).dense() if n < 7 else table[row, :, :, :0]
        near(table[row, :, :, n:], alone)
    both = AttentionMap(q, k, mask=Causal() & Since(first)).dense()
    assert bool((both[..., 0, 4:] == 0).all()) and bool((both[1, :, :, :5] == 0).all())
    for wrong in (first.float(), first[None]):
        with pytest.raises(ArgumentError, match="Since: first is"):
            Since(wrong)
    with pytest.raises(ArgumentError, match="2 numbers for a batch of 3"):
        AttentionMap(q, k, mask=Since(first[:2])).dense()


def test_positions_one_by_one() -> None:
    layer = LearnedPositions(9, 5)
    wanted = torch.tensor([[3, 0], [8, 3]])
    assert torch.equal(layer.at(wanted), layer.table[wanted])
    for wrong, said in (([3, 9], "position 9: expected 0 to 8"), ([-1, 2], "position -1: expected 0 to 8")):
        with pytest.raises(ArgumentError, match=said):
            layer.at(torch.tensor(wrong))


def test_a_scale_of_ones_own() -> None:
    layer = TokenEmbedding(7, 4, scale=1.0)
    ids = torch.tensor([3, 1])
    assert torch.equal(layer(ids), layer.weight[ids])
    layer = TokenEmbedding(7, 4, scale=3.0)
    torch.testing.assert_close(layer(ids), layer.weight[ids] * 3)


def test_heads_of_another_width_and_biases_of_their_own() -> None:
    layer = MultiHeadAttention(10, 4, key_heads=2, head_width=3, bias=True, output_bias=False)
    assert layer.input.weight.shape == (24, 10) and layer.output.weight.shape == (10, 12)
    assert layer.input.bias is not None and layer.output.bias is None
    reverse = MultiHeadAttention(10, 5, bias=False, output_bias=True)
    assert reverse.input.bias is None and reverse.output.bias is not None
    x = torch.randn(2, 5, 10)
    q, known = layer.project(x)
    y = F.linear(x, layer.input.weight, layer.input.bias).view(2, 5, 8, 3).transpose(1, 2)
    assert torch.equal(q, y[:, :4]) and torch.equal(known.keys, y[:, 4:6]) and torch.equal(known.values, y[:, 6:])
    assert layer(x).shape == (2, 5, 10)
    with pytest.raises(ArgumentError, match="head_width must be 1 or more, not 0"):
        MultiHeadAttention(10, 4, head_width=0)
