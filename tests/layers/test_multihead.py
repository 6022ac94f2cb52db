"""`MultiHeadAttention` against torch's, against itself with repeated key heads, and in parts."""

import pytest
import torch
from torch import Tensor, nn

from regard.attention import Causal, Dot, Padding
from regard.errors import ArgumentError
from regard.layers import KeysValues, MultiHeadAttention

B, Q, K, HEADS, E = 2, 5, 7, 3, 33


def randomised(layer: MultiHeadAttention) -> MultiHeadAttention:
    """Biases start at zero, which would hide mistakes: give every parameter a value."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.double()


def build(heads: int = HEADS, width: int = E, key_heads: int | None = None, bias: bool = True) -> MultiHeadAttention:
    torch.manual_seed(0)
    return randomised(MultiHeadAttention(width, heads, key_heads=key_heads, bias=bias))


def torch_twin(layer: MultiHeadAttention, bias: bool) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(E, HEADS, bias=bias, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        twin.in_proj_weight.copy_(layer.input.weight)
        twin.out_proj.weight.copy_(layer.output.weight)
        if bias:
            twin.in_proj_bias.copy_(layer.input.bias)
            twin.out_proj.bias.copy_(layer.output.bias)
    return twin


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_near(a: Tensor | None, b: Tensor | None, atol: float = 1e-12) -> None:
    assert a is not None and b is not None
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_parity_with_torch(bias: bool, cross: bool, causal: bool, padded: bool) -> None:
    layer = build(bias=bias)
    twin = torch_twin(layer, bias)
    x, y = (normal(B, Q, E).requires_grad_() for _ in range(2))
    keys = K if cross else Q
    memories = [normal(B, keys, E, seed=2).requires_grad_() if cross else None for _ in range(2)]
    lengths = torch.tensor([keys, keys - 3])
    # with more keys than queries, torch's mask is written for the contract: the last query sees the last key
    barred = torch.ones(Q, keys).triu(1 + keys - Q).bool() if causal else None
    mask = None
    if causal:
        mask = Causal() & Padding(lengths) if padded else Causal()
    elif padded:
        mask = Padding(lengths)

    ours = layer(x, memories[0], mask)
    source = y if memories[1] is None else memories[1]
    ignored = torch.arange(keys)[None] >= lengths[:, None] if padded else None
    theirs = twin(y, source, source, key_padding_mask=ignored, attn_mask=barred, need_weights=False)[0]

    assert ours.shape == (B, Q, E)
    assert_near(ours, theirs)
    upstream = normal(B, Q, E, seed=3)
    ours.backward(upstream)
    theirs.backward(upstream)
    assert_near(x.grad, y.grad)
    if cross:
        assert memories[0] is not None and memories[1] is not None
        assert_near(memories[0].grad, memories[1].grad)
    assert_near(layer.input.weight.grad, twin.in_proj_weight.grad)
    assert_near(layer.output.weight.grad, twin.out_proj.weight.grad)
    if bias:
        assert_near(layer.input.bias.grad, twin.in_proj_bias.grad)
        assert_near(layer.output.bias.grad, twin.out_proj.bias.grad)


def test_parity_in_float32() -> None:
    layer = build().float()
    twin = torch_twin(layer, True).float()
    x = normal(B, Q, E).float()
    torch.testing.assert_close(layer(x), twin(x, x, x, need_weights=False)[0], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("cross", [False, True])
def test_grouped_heads_equal_repeated_key_heads(groups: int, cross: bool) -> None:
    heads, width = 6, 30
    grouped = build(heads, width, groups)
    full = build(heads, width)
    d, share = width // heads, heads // groups

    def repeated(rows: Tensor) -> Tensor:
        q, k, v = rows.split([width, groups * d, groups * d])
        return torch.cat([q, *(x.unflatten(0, (groups, d)).repeat_interleave(share, 0).flatten(0, 1) for x in (k, v))])

    with torch.no_grad():
        full.input.weight.copy_(repeated(grouped.input.weight))
        full.input.bias.copy_(repeated(grouped.input.bias))
        full.output.load_state_dict(grouped.output.state_dict())
    x = normal(B, Q, width)
    memory = normal(B, K, width, seed=2) if cross else None
    mask = Padding(torch.tensor([3, 2])) if cross else Causal()
    assert grouped.input.out_features == width + 2 * groups * d
    ours, theirs = grouped(x, memory, mask), full(x, memory, mask)
    assert_near(ours, theirs)

    upstream = normal(B, Q, width, seed=3)
    ours.backward(upstream)
    theirs.backward(upstream)
    assert full.input.weight.grad is not None and full.input.bias.grad is not None

    def gathered(rows: Tensor) -> Tensor:
        q, k, v = rows.split([width, width, width])
        return torch.cat([q, *(x.unflatten(0, (groups, share, d)).sum(1).flatten(0, 1) for x in (k, v))])

    assert_near(grouped.input.weight.grad, gathered(full.input.weight.grad))
    assert_near(grouped.input.bias.grad, gathered(full.input.bias.grad))


def test_parts_equal_the_whole() -> None:
    layer = build(6, 30, 2)
    x, memory = normal(B, Q, 30), normal(B, K, 30, seed=2)
    q, known = layer.project(x)
    assert q.shape == (B, 6, Q, 5)
    assert known.keys.shape == known.values.shape == (B, 2, Q, 5)
    assert_near(q, layer.queries(x))
    assert_near(known.keys, layer.keys_values(x).keys)
    assert_near(known.values, layer.keys_values(x).values)
    assert_near(layer.attend_to(q, known), layer(x))
    mask = Padding(torch.tensor([4, 6]))
    assert_near(layer.attend_to(layer.queries(x), layer.keys_values(memory), mask), layer(x, memory, mask))


@pytest.mark.parametrize("pieces", [[1] * 7, [2, 3, 2], [5, 1, 1], [7]])
def test_a_growing_cache_equals_the_whole(pieces: list[int]) -> None:
    layer = build(6, 30, 2)
    x = normal(B, 7, 30)
    cache = KeysValues(x.new_zeros(B, 2, 0, 5), x.new_zeros(B, 2, 0, 5))
    parts = []
    for piece in x.split(pieces, 1):
        q, new = layer.project(piece)
        cache = KeysValues(torch.cat([cache.keys, new.keys], 2), torch.cat([cache.values, new.values], 2))
        parts.append(layer.attend_to(q, cache, Causal()))
    assert_near(torch.cat(parts, 1), layer(x, mask=Causal()))


def test_padding_never_changes_a_result() -> None:
    layer = build()
    x, memory = normal(B, Q, E), normal(B, K, E, seed=2)
    lengths = torch.tensor([K, 3])
    whole = layer(x, memory, Padding(lengths))
    for b, n in enumerate(lengths.tolist()):
        alone = layer(x[b : b + 1], memory[b : b + 1, :n])
        assert_near(whole[b : b + 1], alone)
    spoiled = memory.clone()
    spoiled[1, 3:] = torch.nan
    longer = torch.cat([spoiled, torch.full((B, 2, E), torch.inf, dtype=torch.float64)], 1)
    assert_near(layer(x, spoiled, Padding(lengths)), whole)
    assert_near(layer(x, longer, Padding(lengths)), whole)
    # self-attention: the results at real positions
    alone = layer(x[1:, :3])
    assert_near(layer(x, mask=Padding(torch.tensor([Q, 3])))[1:, :3], alone)


def test_no_visible_key_gives_the_output_bias() -> None:
    layer = build()
    y = layer(normal(B, Q, E), normal(B, K, E, seed=2), Padding(torch.tensor([0, K])))
    assert_near(y[0], layer.output.bias.expand(Q, E))
    y.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in layer.parameters())


def test_an_empty_sequence_is_one() -> None:
    layer = build()
    assert layer(normal(B, 0, E)).shape == (B, 0, E)
    assert_near(layer(normal(B, Q, E), normal(B, 0, E)), layer.output.bias.expand(B, Q, E))


def test_permutation_equivariance() -> None:
    layer = build()
    x, order = normal(B, Q, E), torch.tensor([3, 0, 4, 1, 2])
    assert_near(layer(x[:, order]), layer(x)[:, order])
    assert_near(layer(x, x[:, order]), layer(x))


def test_the_score_is_a_parameter() -> None:
    layer = build()
    plain = MultiHeadAttention(E, HEADS, score=Dot()).double()
    plain.load_state_dict(layer.state_dict())
    with torch.no_grad():  # the scale 1/√D moved into the query projection
        plain.input.weight[:E] /= (E // HEADS) ** 0.5
        plain.input.bias[:E] /= (E // HEADS) ** 0.5
    x = normal(B, Q, E)
    assert_near(plain(x), layer(x))


def test_dropout_only_in_training() -> None:
    layer = build()
    dropped = MultiHeadAttention(E, HEADS, dropout=0.5).double()
    dropped.load_state_dict(layer.state_dict())
    x = normal(B, Q, E)
    torch.manual_seed(2)
    assert not torch.allclose(dropped(x), layer(x))
    assert_near(dropped.eval()(x), layer(x))


def test_fresh_weights_have_xavier_spread_and_no_bias() -> None:
    torch.manual_seed(3)
    layer = MultiHeadAttention(128, 8, key_heads=2)
    assert abs(layer.input.weight.std().item() * 128**0.5 - 1) < 0.02
    assert abs(layer.output.weight.std().item() * 128**0.5 - 1) < 0.02
    assert not layer.input.bias.any() and not layer.output.bias.any()


@pytest.mark.parametrize(("width", "heads", "key_heads"), [(7, 3, None), (6, 0, None), (6, -2, None)])
def test_heads_must_divide_the_width(width: int, heads: int, key_heads: int | None) -> None:
    with pytest.raises(ArgumentError, match="heads"):
        MultiHeadAttention(width, heads, key_heads=key_heads)


@pytest.mark.parametrize("key_heads", [4, 5, 12, 0, -1])
def test_key_heads_must_divide_the_heads(key_heads: int) -> None:
    with pytest.raises(ArgumentError, match="key_heads"):
        MultiHeadAttention(30, 6, key_heads=key_heads)


def test_sizes_that_disagree_are_errors() -> None:
    layer = build()
    with pytest.raises(ArgumentError, match="batch"):
        layer(normal(B, Q, E), normal(B + 1, K, E))
    with pytest.raises(ArgumentError, match="Padding"):
        layer(normal(B, Q, E), mask=Padding(torch.tensor([1, 2, 3])))
    with pytest.raises(ArgumentError, match="Padding"):
        layer(normal(B, Q, E), mask=Padding(torch.tensor([1, Q + 1])))
