"""The small self-attention classes: formulas, numbers worked by hand, equivariance."""

import math

import pytest
import torch
from torch import Tensor, nn

from regard import record
from regard.layers import CausalSelfAttention, SelfAttention, SimpleSelfAttention

SIX_WORDS = [
    [0.43, 0.15, 0.89],  # Your
    [0.55, 0.87, 0.66],  # journey
    [0.57, 0.85, 0.64],  # starts
    [0.22, 0.58, 0.33],  # with
    [0.77, 0.25, 0.10],  # one
    [0.05, 0.80, 0.55],  # step
]
Rows = list[list[float]]


def attention_by_hand(queries: Rows, keys: Rows, values: Rows, scale: float) -> Rows:
    """softmax(scale · q·k) · v in plain Python."""
    contexts = []
    for q in queries:
        weights = [math.exp(scale * sum(a * b for a, b in zip(q, k, strict=True))) for k in keys]
        total = sum(weights)
        contexts.append(
            [sum(w * v[i] for w, v in zip(weights, values, strict=True)) / total for i in range(len(values[0]))]
        )
    return contexts


def times(rows: Rows, matrix: Rows) -> Rows:
    """rows · matrixᵀ in plain Python."""
    return [[sum(a * b for a, b in zip(row, out, strict=True)) for out in matrix] for row in rows]


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_six_words_without_weights() -> None:
    contexts = SimpleSelfAttention()(torch.tensor(SIX_WORDS))
    # "journey": dot products 0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865 with the six words; their softmax is
    # 0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581, and the mean of the words by these weights is
    expected = [0.4419, 0.6515, 0.5683]
    assert contexts[1].tolist() == pytest.approx(expected, abs=5e-5)
    by_hand = attention_by_hand(SIX_WORDS, SIX_WORDS, SIX_WORDS, 1.0)
    torch.testing.assert_close(contexts, torch.tensor(by_hand), atol=1e-6, rtol=0)
    assert by_hand[1] == pytest.approx(expected, abs=5e-5)


def test_six_words_with_weights() -> None:
    query, key, value = (
        [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]],
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        [[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]],
    )
    layer = SelfAttention(3, 2)
    with torch.no_grad():
        for part, rows in ((layer.query, query), (layer.key, key), (layer.value, value)):
            part.weight.copy_(torch.tensor(rows))
    q, k, v = (times(SIX_WORDS, rows) for rows in (query, key, value))
    expected = torch.tensor(attention_by_hand(q, k, v, 1 / math.sqrt(2)))
    torch.testing.assert_close(layer(torch.tensor(SIX_WORDS)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_self_attention_is_its_formula(bias: bool, batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(5, 7, bias=bias).double()
    x = normal(*batch, 11, 5)
    q, k, v = (x @ p.weight.T + (p.bias if bias else 0.0) for p in (layer.query, layer.key, layer.value))
    expected = (q @ k.transpose(-1, -2) / math.sqrt(7)).softmax(-1) @ v
    assert expected.shape == (*batch, 11, 7)
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)
    assert sum(p.numel() for p in layer.parameters()) == 3 * 5 * 7 + (3 * 7 if bias else 0)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_causal_self_attention_is_its_formula(batch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(5, 7).double()
    x = normal(*batch, 11, 5)
    q, k, v = (x @ p.weight.T for p in (layer.query, layer.key, layer.value))
    later = torch.ones(11, 11).triu(1).bool()
    expected = (q @ k.transpose(-1, -2) / math.sqrt(7)).masked_fill(later, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)


def test_causal_rows_are_self_attention_on_the_past() -> None:
    torch.manual_seed(0)
    causal = CausalSelfAttention(5, 7, bias=True).double()
    plain = SelfAttention(5, 7, bias=True).double()
    plain.load_state_dict(causal.state_dict())
    x = normal(11, 5)
    y = causal(x)
    torch.testing.assert_close(y[0], causal.value(x[0]), atol=1e-12, rtol=0)
    for i in range(11):
        torch.testing.assert_close(y[i], plain(x[: i + 1])[i], atol=1e-12, rtol=0)
    changed = x.clone()
    changed[6:] = 100.0
    assert torch.equal(causal(changed)[:6], y[:6])


@pytest.mark.parametrize("layer", [SimpleSelfAttention(), SelfAttention(5, 3), SelfAttention(5, 3, bias=True)])
def test_permutation_equivariance(layer: nn.Module) -> None:
    layer = layer.double()
    x, order = normal(2, 7, 5), torch.tensor([4, 0, 6, 2, 1, 5, 3])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], atol=1e-12, rtol=0)


def test_causal_is_not_permutation_equivariant() -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(5, 3).double()
    x, order = normal(7, 5), torch.tensor([4, 0, 6, 2, 1, 5, 3])
    assert not torch.allclose(layer(x[order]), layer(x)[order])


def test_dropout_only_in_training() -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(5, 3, dropout=0.5).double()
    x = normal(7, 5)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_small_layers_can_be_recorded() -> None:
    x = torch.randn(5, 3)
    for layer in (SimpleSelfAttention(), SelfAttention(3, 2), CausalSelfAttention(3, 2)):
        with record(layer) as recording:
            layer(x)
        assert recording["operator"].shape == (5, 5)
