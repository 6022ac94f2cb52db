"""Positions, embeddings, the feed-forward network and residual connections, by their formulas."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ArgumentError
from regard.layers import (
    FeedForward,
    LearnedPositions,
    PositionedEmbedding,
    PostNorm,
    PreNorm,
    Residual,
    SinusoidalPositions,
    TokenEmbedding,
)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def test_sinusoids_are_the_papers() -> None:
    length, width = 1031, 14
    table = SinusoidalPositions(length, width)(0, length)
    expected = torch.empty(length, width, dtype=torch.float64)
    for p in range(length):
        for i in range(width // 2):
            angle = p / 10000 ** (2 * i / width)
            expected[p, 2 * i], expected[p, 2 * i + 1] = math.sin(angle), math.cos(angle)
    assert table.dtype == torch.float32 and table.shape == (length, width)
    torch.testing.assert_close(table.double(), expected, atol=6e-8, rtol=0)  # half a unit in the last place of 1
    assert table[0].tolist() == [0.0, 1.0] * (width // 2)


def test_a_shift_is_a_rotation() -> None:
    width, shift, length = 22, 13, 101
    table = SinusoidalPositions(length, width)(0, length).double().unflatten(1, (-1, 2))  # (L, E / 2, 2)
    angles = torch.tensor([shift / 10000 ** (2 * i / width) for i in range(width // 2)], dtype=torch.float64)
    sin, cos = table[:-shift].unbind(-1)
    rotated = torch.stack((sin * angles.cos() + cos * angles.sin(), cos * angles.cos() - sin * angles.sin()), -1)
    torch.testing.assert_close(table[shift:], rotated, atol=3e-7, rtol=0)


@pytest.mark.parametrize("positions", [SinusoidalPositions(17, 6), LearnedPositions(17, 5)])
def test_positions_are_a_part_of_the_table(positions: SinusoidalPositions | LearnedPositions) -> None:
    whole = positions(0, 17)
    assert torch.equal(positions(5, 7), whole[5:12])
    assert torch.equal(positions(16, 1), whole[16:])
    assert positions.max_length == 17
    for start, length, last in ((0, 18, 17), (17, 1, 17), (11, 13, 23)):
        with pytest.raises(ArgumentError, match=f"position {last} is past the last one, 16"):
            positions(start, length)


def test_only_learned_positions_have_parameters() -> None:
    sinusoidal, learned = SinusoidalPositions(17, 6), LearnedPositions(17, 5)
    assert not list(sinusoidal.parameters()) and not sinusoidal.state_dict()
    assert [tuple(p.shape) for p in learned.parameters()] == [(17, 5)]
    learned(3, 2).sum().backward()
    assert learned.table.grad is not None
    assert learned.table.grad.sum(1).tolist() == [0.0] * 3 + [5.0] * 2 + [0.0] * 12


def test_sinusoids_need_an_even_width() -> None:
    with pytest.raises(ArgumentError, match="even width, not 7"):
        SinusoidalPositions(11, 7)


def test_token_embedding_is_the_table_times_root_width() -> None:
    torch.manual_seed(0)
    layer = TokenEmbedding(13, 7).double()
    ids = torch.tensor([[3, 12, 0], [3, 3, 5]])
    torch.testing.assert_close(layer(ids), layer.weight[ids] * math.sqrt(7), atol=1e-14, rtol=0)
    layer(ids).sum().backward()
    assert layer.weight.grad is not None
    counts = torch.bincount(ids.flatten(), minlength=13).double()
    torch.testing.assert_close(layer.weight.grad, counts[:, None].expand(13, 7) * math.sqrt(7))


def test_fresh_vectors_and_tied_logits_have_unit_variance() -> None:
    torch.manual_seed(0)
    layer = TokenEmbedding(1009, 128)
    assert abs(layer(torch.arange(1009)).std().item() - 1) < 0.02
    assert abs((torch.randn(101, 128) @ layer.weight.T).std().item() - 1) < 0.05


@pytest.mark.parametrize("positions", [SinusoidalPositions(17, 6), LearnedPositions(17, 6)])
def test_positioned_embedding_is_a_sum(positions: SinusoidalPositions | LearnedPositions) -> None:
    layer = PositionedEmbedding(TokenEmbedding(13, 6), positions, dropout=0.5).eval()
    ids = torch.tensor([[3, 12, 0], [4, 1, 5]])
    torch.testing.assert_close(layer(ids), layer.tokens(ids) + positions(0, 3))
    torch.testing.assert_close(layer(ids, start=7), layer.tokens(ids) + positions(7, 3))
    torch.testing.assert_close(layer(ids[:, 2:], start=2), layer(ids)[:, 2:])
    with pytest.raises(ArgumentError, match="past the last one"):
        layer(ids, start=15)


def test_dropout_is_on_the_sum() -> None:
    torch.manual_seed(0)
    layer = PositionedEmbedding(TokenEmbedding(13, 6), SinusoidalPositions(101, 6), dropout=0.25)
    ids = torch.randint(0, 13, (7, 101))
    dropped, kept = layer(ids), layer.eval()(ids)
    zero = dropped == 0
    assert abs(zero.float().mean().item() - 0.25) < 0.03
    torch.testing.assert_close(dropped[~zero], kept[~zero] / 0.75)


def test_feedforward_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = FeedForward(5, 11).double()
    x = normal(2, 3, 5)
    hidden = (x @ layer.inner.weight.T + layer.inner.bias).clamp(min=0)
    torch.testing.assert_close(layer(x), hidden @ layer.outer.weight.T + layer.outer.bias, atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", [PostNorm, PreNorm])
def test_residual_is_its_formula(kind: type[Residual]) -> None:
    layer = kind(7, 0.1).double().eval()
    with torch.no_grad():
        layer.norm.weight.copy_(normal(7, seed=2))
        layer.norm.bias.copy_(normal(7, seed=3))
    x = 3 * normal(2, 5, 7) + 1
    expected = {
        PostNorm: normalised(x + torch.tanh(x), layer.norm),
        PreNorm: x + torch.tanh(normalised(x, layer.norm)),
    }[kind]
    torch.testing.assert_close(layer(x, torch.tanh), expected, atol=1e-13, rtol=0)


def test_dropout_is_on_the_sublayer_alone() -> None:
    x = normal(2, 5, 7)
    assert torch.equal(PreNorm(7, 1.0).double()(x, torch.tanh), x)
    assert torch.equal(PostNorm(7, 1.0).double()(x, torch.tanh), F.layer_norm(x, (7,)))
