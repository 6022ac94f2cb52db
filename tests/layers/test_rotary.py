"""Rotary positions: by their formula, by Hugging Face's, and by what they are for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama

from regard.attention import Causal
from regard.errors import ArgumentError
from regard.layers import KeysValues, MultiHeadAttention, RotaryPositions, Rotation, Stretch


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_pair_is_turned_by_its_angle() -> None:
    width, base = 10, 70.0
    x, positions = normal(2, 3, 5, width), torch.tensor([[0, 1, 2, 3, 4], [7, 0, 300, 2, 2]])
    turned = RotaryPositions(width, base)(positions, torch.float64).turn(x)
    for b in range(2):
        for i in range(5):
            for j in range(width // 2):
                angle = int(positions[b, i]) * base ** (-2 * j / width)
                first, second = x[b, :, i, j], x[b, :, i, j + width // 2]
                cos, sin = math.cos(angle), math.sin(angle)
                torch.testing.assert_close(turned[b, :, i, j], first * cos - second * sin, atol=1e-12, rtol=0)
                expected = second * cos + first * sin
                torch.testing.assert_close(turned[b, :, i, j + width // 2], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parity_with_llama(dtype: torch.dtype) -> None:
    """Bit for bit at positions far away too: angles are computed as there."""
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=9000,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )  # fmt: skip
    positions = torch.tensor([[0, 1, 2, 5003], [8191, 8192, 77, 3]])
    q, k = (normal(2, heads, 4, 16, seed=heads).to(dtype) for heads in (4, 2))
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(q, positions)
    expected = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    rotation = RotaryPositions(16, 500000.0)(positions, dtype)
    tolerance = 2e-7 if dtype == torch.float32 else 4e-2
    for found, wanted in zip((rotation.turn(q), rotation.turn(k)), expected, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, wanted, atol=4 * tolerance, rtol=0)


@pytest.mark.parametrize("original", [None, 64, 8192])
def test_longer_wavelengths_are_those_of_llama(original: int | None) -> None:
    """At positions far beyond the original length; with Llama 3.2's numbers some of 32 wavelengths stay."""
    kind = {"rope_type": "linear", "rope_theta": 500000.0, "factor": 32.0}
    if original is not None:
        kind |= {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        kind |= {"original_max_position_embeddings": original}
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 131072}
    config = LlamaConfig(**sizes, rope_parameters=kind)
    positions = torch.tensor([[0, 1, 63, 8191], [8192, 9000, 131071, 3]])
    q = normal(2, 4, 4, 64).float()
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(q, positions)
    expected, _ = modeling_llama.apply_rotary_pos_emb(q, q, cos, sin)
    found = RotaryPositions(64, 500000.0, Stretch(32.0, original))(positions, torch.float32).turn(q)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    plain = RotaryPositions(64, 500000.0)(positions, torch.float32).turn(q)
    assert float((plain - expected)[1].abs().max()) > 0.5  # otherwise the equality would prove little


def test_which_wavelengths_stay() -> None:
    frequency = 2 * math.pi * torch.tensor([8.0, 4.0, 2.5, 1.0, 0.1], dtype=torch.float64) / 100  # rounds in 100 steps
    found = Stretch(10.0, 100, 1.0, 4.0).apply(frequency) / frequency
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.55, 0.1, 0.1], dtype=torch.float64))
    for wrong in ({"factor": 0.0}, {"factor": 2.0, "low": 4.0}):
        with pytest.raises(ArgumentError, match=r"^Stretch: "):
            Stretch(**wrong)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 300), distance=st.integers(-50, 50), shift=st.integers(0, 1000), seed=st.integers(0, 99))
def test_scores_know_distances_only(at: int, distance: int, shift: int, seed: int) -> None:
    rotary, q, k = RotaryPositions(8), normal(1, 1, 1, 8, seed=seed), normal(1, 1, 1, 8, seed=seed + 100)

    def score(position: int) -> Tensor:
        turns = [rotary(torch.tensor([p]), torch.float64) for p in (position, position + distance)]
        return (turns[0].turn(q) * turns[1].turn(k)).sum()

    torch.testing.assert_close(score(at + 50), score(at + 50 + shift), atol=1e-11, rtol=0)


def test_lengths_stay_and_position_zero_changes_nothing() -> None:
    x, rotary = normal(2, 3, 5, 6), RotaryPositions(6)
    turned = rotary(torch.arange(5), torch.float64).turn(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not list(rotary.parameters()) and not rotary.state_dict()


def test_attention_turns_queries_and_keys_alone() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 6, key_heads=2, head_width=4).double()
    x, rotation = normal(2, 5, 12), RotaryPositions(4)(torch.arange(5) + 3, torch.float64)
    q, known = layer.project(x)
    turned_q, turned = layer.project(x, rotation)
    torch.testing.assert_close(turned_q, rotation.turn(q))
    torch.testing.assert_close(turned.keys, rotation.turn(known.keys))
    torch.testing.assert_close(turned.values, known.values)
    expected = layer.attend_to(rotation.turn(q), KeysValues(rotation.turn(known.keys), known.values), Causal())
    torch.testing.assert_close(layer(x, mask=Causal(), rotation=rotation), expected)
    with pytest.raises(ArgumentError, match="rotation is for self-attention"):
        layer(x, x, rotation=rotation)


def test_gradients() -> None:
    x = normal(1, 2, 3, 6).requires_grad_()
    rotation = RotaryPositions(6)(torch.arange(3) + 2, torch.float64)
    assert torch.autograd.gradcheck(rotation.turn, (x,))


def test_mixed_precision_keeps_one_dtype() -> None:
    layer = MultiHeadAttention(12, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(normal(2, 5, 12).float(), mask=Causal(), rotation=RotaryPositions(4)(torch.arange(5), torch.float32))
    assert y.dtype == torch.bfloat16


def test_an_odd_width() -> None:
    with pytest.raises(ArgumentError, match="even head width, not 5"):
        RotaryPositions(5)


def test_one_rotation_for_all_rows_or_one_each() -> None:
    rotary = RotaryPositions(6)
    one, each = rotary(torch.arange(5), torch.float32), rotary(torch.arange(5).expand(2, 5), torch.float32)
    assert isinstance(one, Rotation) and one.cos.shape == (1, 1, 5, 6) and each.cos.shape == (2, 1, 5, 6)
    x = normal(2, 3, 5, 6).float()
    assert torch.equal(one.turn(x), each.turn(x))
