"""Attention layers against torch's, Keras's formulas, Hugging Face's T5 and BLOOM; packed, padded and one by one."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles.layer_options import LAYER_SCORES, randomised
from regard import record
from regard.attention import Additive, ALiBi, Causal, Dense, Document, Dot, Mask, Padding, ScaledDot
from regard.layers import (
    AdditiveScore,
    Attention,
    KeysValues,
    LearnedSink,
    MultiHeadAttention,
    RelativePositionBias,
)

B, Q, K, H, D = 2, 5, 7, 3, 11
E = H * D


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(a: Tensor | None, b: Tensor | None, atol: float = 1e-12) -> None:
    assert a is not None and b is not None
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-9)


def torch_pair(bias: bool = True) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    torch.manual_seed(0)
    layer = MultiHeadAttention(E, H, bias=bias)
    randomised(layer)
    twin = nn.MultiheadAttention(E, H, bias=bias, batch_first=True, dtype=torch.float64)
    names = {"in_proj_": layer.input, "out_proj.": layer.output}
    state = {f"{name}{key}": x for name, part in names.items() for key, x in part.state_dict().items()}
    twin.load_state_dict(state)
    return layer, twin


def assert_same_parameter_gradients(layer: MultiHeadAttention, twin: nn.MultiheadAttention) -> None:
    near(layer.input.weight.grad, twin.in_proj_weight.grad)
    near(layer.output.weight.grad, twin.out_proj.weight.grad)
    if layer.input.bias is not None:
        near(layer.input.bias.grad, twin.in_proj_bias.grad)
        near(layer.output.bias.grad, twin.out_proj.bias.grad)


BARRED = torch.rand(B, H, Q, K, generator=torch.Generator().manual_seed(5)) < 0.4
BARRED[..., 0] = False  # torch gives NaN to a row that sees nothing
LENGTHS = torch.tensor([K, 3])

# our mask, and torch's key_padding_mask and attn_mask
TORCH_MASKS: dict[str, tuple[Mask | None, Tensor | None, Tensor | None]] = {
    "none": (None, None, None),
    "causal": (Causal(0), None, torch.ones(Q, K).triu(1).bool()),
    "padding": (Padding(LENGTHS), torch.arange(K) >= LENGTHS[:, None], None),
    "one table": (Dense(~BARRED[0, 0]), None, BARRED[0, 0]),
    "a table for each head": (Dense(~BARRED), None, BARRED.flatten(0, 1)),
    "a table and padding": (
        Dense(~BARRED) & Padding(LENGTHS),
        torch.arange(K) >= LENGTHS[:, None],
        BARRED.flatten(0, 1),
    ),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", TORCH_MASKS)
def test_torch_multihead_attention(name: str, bias: bool) -> None:
    layer, twin = torch_pair(bias)
    mask, padding, table = TORCH_MASKS[name]
    given = [[normal(B, n, E, seed=n).requires_grad_() for n in (Q, K)] for _ in range(2)]
    ours = layer(*given[0], mask)
    theirs, _ = twin(
        given[1][0], given[1][1], given[1][1], key_padding_mask=padding, attn_mask=table, need_weights=False
    )
    near(ours, theirs)
    upstream = normal(B, Q, E, seed=3)
    ours.backward(upstream)
    theirs.backward(upstream)
    for mine, other in zip(*given, strict=True):
        near(mine.grad, other.grad)
    assert_same_parameter_gradients(layer, twin)


def test_torch_with_keys_of_one_memory_and_values_of_another() -> None:
    layer, twin = torch_pair()
    given = [[normal(B, n, E, seed=s).requires_grad_() for s, n in ((1, Q), (2, K), (3, K))] for _ in range(2)]
    x, keys, values = given[0]
    known = KeysValues(layer.keys_values(keys).keys, layer.keys_values(values).values)
    ours = layer.attend_to(layer.queries(x), known, Padding(LENGTHS))
    theirs, _ = twin(*given[1], key_padding_mask=TORCH_MASKS["padding"][1], need_weights=False)
    near(ours, theirs)
    upstream = normal(B, Q, E, seed=4)
    ours.backward(upstream)
    theirs.backward(upstream)
    for mine, other in zip(*given, strict=True):
        near(mine.grad, other.grad)
    assert_same_parameter_gradients(layer, twin)


@pytest.mark.parametrize("name", TORCH_MASKS)
def test_recorded_weights_are_those_that_torch_returns(name: str) -> None:
    layer, twin = torch_pair()
    mask, padding, table = TORCH_MASKS[name]
    x, memory = normal(B, Q, E), normal(B, K, E, seed=2)
    with record(layer) as recording:
        layer(x, memory, mask)
    weights = recording["operator"].dense()
    for average, ours in ((False, weights), (True, weights.mean(1))):
        _, theirs = twin(x, memory, memory, key_padding_mask=padding, attn_mask=table, average_attn_weights=average)
        assert theirs.shape == ours.shape
        near(ours, theirs)


# Keras's layers, as their documentation writes them, in numpy: a mask is True where a key may be seen.
def keras_softmax(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    scores = scores - 1e9 * (1.0 - mask.astype(scores.dtype))[:, None, :]
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def keras_additive_attention(q: np.ndarray, k: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.sum(scale * np.tanh(q[:, :, None, :] + k[:, None, :, :]), axis=-1)


def keras_attention(q: np.ndarray, k: np.ndarray, mode: str, scale: float, concat_weight: float = 1.0) -> np.ndarray:
    if mode == "dot":
        return scale * np.einsum("bqd,bkd->bqk", q, k)
    return concat_weight * np.sum(np.tanh(scale * (q[:, :, None, :] + k[:, None, :, :])), axis=-1)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def scaled_additive() -> Attention:
    layer = Attention(AdditiveScore(D))
    with torch.no_grad():
        layer.score.v.copy_(normal(D, seed=9))
    return layer


KERAS: dict[str, tuple[Callable[[], Attention], Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "AdditiveAttention": (
        scaled_additive,
        lambda q, k: keras_additive_attention(q, k, normal(D, seed=9).float().double().numpy()),
    ),
    "AdditiveAttention(use_scale=False)": (
        lambda: Attention(Additive(torch.ones(D))),
        lambda q, k: keras_additive_attention(q, k, np.ones(D)),
    ),
    "Attention": (lambda: Attention(Dot()), lambda q, k: keras_attention(q, k, "dot", 1.0)),
    "Attention(use_scale=True)": (
        lambda: Attention(ScaledDot(0.4)),
        lambda q, k: keras_attention(q, k, "dot", 0.4),
    ),
    "Attention(score_mode='concat')": (
        lambda: Attention(Additive(torch.full((D,), 1.7, dtype=torch.float64))),
        lambda q, k: keras_attention(q, k, "concat", 1.0, 1.7),
    ),
    "Attention(score_mode='concat', use_scale=True)": (
        lambda: Attention(Additive(torch.full((D,), 1.7, dtype=torch.float64)), query=Times(0.4), key=Times(0.4)),
        lambda q, k: keras_attention(q, k, "concat", 0.4, 1.7),
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_formulas(name: str) -> None:
    build, scores = KERAS[name]
    layer = build().double()
    q, k = normal(B, Q, D), normal(B, K, D, seed=2)
    seen = torch.arange(K) < LENGTHS[:, None]
    with record(layer) as recording:
        context = layer(q, k, Padding(LENGTHS))
    weights = keras_softmax(scores(q.numpy(), k.numpy()), seen.numpy())
    near(recording["operator"].dense(), torch.from_numpy(weights))
    near(context.detach(), torch.from_numpy(weights @ k.numpy()))


@pytest.mark.parametrize("decoder", [False, True])
def test_hugging_face_t5_attention(decoder: bool) -> None:
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    length = 29  # so that far buckets are reached
    config = t5.T5Config(
        d_model=E,
        d_kv=D,
        num_heads=H,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=13,
        is_decoder=decoder,
        dropout_rate=0.0,
        attn_implementation="eager",
    )
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double().eval()
    torch.manual_seed(0)
    randomised(theirs)
    bias = RelativePositionBias(H, 8, 13, bidirectional=not decoder)
    ours = MultiHeadAttention(E, H, score=Dot(), position_bias=bias, bias=False).double()
    ours.load_state_dict(
        {
            "input.weight": torch.cat([theirs.q.weight, theirs.k.weight, theirs.v.weight]),
            "output.weight": theirs.o.weight,
            "position_bias.table": theirs.relative_attention_bias.weight,
        }
    )
    x = normal(B, length, E)
    seen = torch.ones(length, length, dtype=torch.bool).tril() if decoder else torch.ones(1, length, dtype=torch.bool)
    barred = torch.zeros(1, 1, *seen.shape, dtype=torch.float64).masked_fill(~seen, torch.finfo(torch.float64).min)
    expected, _, weights = theirs(x, mask=barred)
    with record(ours) as recording:
        context = ours(x, mask=Causal() if decoder else None)
    near(context, expected)
    near(recording["operator"].dense(), weights.detach())
    upstream = normal(B, length, E, seed=2)
    context.backward(upstream)
    expected.backward(upstream)
    near(bias.table.grad, theirs.relative_attention_bias.weight.grad)
    near(ours.input.weight.grad, torch.cat([p.weight.grad for p in (theirs.q, theirs.k, theirs.v)]))


@pytest.mark.parametrize("heads", [1, 3, 8, 12])
def test_alibi_as_in_blooms_code(heads: int) -> None:
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    torch.manual_seed(0)
    layer = MultiHeadAttention(heads * 2, heads, position_bias=ALiBi())
    randomised(layer)
    length = 13
    x = normal(B, length, heads * 2)
    # slope · j: up to a number for each row, which a softmax ignores, −slope · (i − j) below the diagonal
    table = bloom.build_alibi_tensor(torch.ones(B, length), heads, torch.float64).view(B, heads, 1, length)
    q, known = layer.project(x)
    scores = q @ known.keys.transpose(-1, -2) / math.sqrt(2) + table
    weights = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf).softmax(-1)
    with record(layer) as recording:
        context = layer(x, mask=Causal())
    # its slopes are float32, which holds powers of two only
    near(recording["operator"].dense(), weights, atol=1e-6)
    near(context, layer.output((weights @ known.values).transpose(1, 2).flatten(2)), atol=1e-6)


def test_alibi_slopes_of_the_paper() -> None:
    layer = MultiHeadAttention(8, 8, position_bias=ALiBi()).double()
    nn.init.zeros_(layer.input.weight)  # then the bias alone makes the weights
    with record(layer) as recording:
        layer(normal(1, 6, 8), mask=Causal())
    weights = recording["operator"].dense()[0]
    for h in range(8):  # 1/2, 1/4, …, 1/256
        row = [math.exp(-(2.0 ** -(h + 1)) * (5 - j)) for j in range(6)]
        assert weights[h, 5].tolist() == pytest.approx([x / sum(row) for x in row], rel=1e-12)


def full_layer(name: str) -> MultiHeadAttention:
    """Every option at once, with the score of this name."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(
        E,
        H,
        score=LAYER_SCORES[name](D, H),
        position_bias=RelativePositionBias(H, 8, 6),
        sink=LearnedSink(H),
    )
    randomised(layer)
    return layer


def gradients(layer: nn.Module, x: Tensor, parts: Callable[[Tensor], Tensor], upstream: Tensor) -> list[Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    parts(x).backward(upstream)
    found = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) for g in found)
    return [g.clone() for g in found if g is not None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LAYER_SCORES)
def test_packed_sequences_are_each_alone(name: str, causal: bool) -> None:
    layer = full_layer(name)
    lengths = [[3, 5, 2, 1], [7, 1, 3]]  # each row has eleven places, and two that belong to none
    ids = torch.full((B, 13), -1)
    for b, row in enumerate(lengths):
        ids[b, : sum(row)] = torch.arange(len(row)).repeat_interleave(torch.tensor(row))
    mask = Document(ids) & Causal() if causal else Document(ids)
    alone_mask = Causal() if causal else None
    x, upstream = normal(B, 13, E), normal(B, 13, E, seed=3)
    upstream[ids < 0] = 0.0

    def one_by_one(x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for b, row in enumerate(lengths):
            start = 0
            for n in row:
                y[b, start : start + n] = layer(x[b : b + 1, start : start + n], mask=alone_mask)[0]
                start += n
        return y

    def packed(x: Tensor) -> Tensor:
        return layer(x, mask=mask)

    inside = ids >= 0
    near(packed(x)[inside], one_by_one(x)[inside])
    for ours, expected in zip(
        gradients(layer, x, packed, upstream), gradients(layer, x, one_by_one, upstream), strict=True
    ):
        near(ours, expected, atol=1e-11)


@pytest.mark.parametrize("name", LAYER_SCORES)
def test_neither_batch_nor_padding_changes_a_result(name: str) -> None:
    layer = full_layer(name)
    x, memory, upstream = normal(B, Q, E), normal(B, K, E, seed=2), normal(B, Q, E, seed=3)
    spoiled = memory.clone()
    spoiled[1, 3:] = 1e9  # NaN would make that of the gradient of a projection, which is 0 · NaN

    def together(x: Tensor) -> Tensor:
        return layer(x, spoiled, Padding(LENGTHS))

    def alone(x: Tensor) -> Tensor:
        return torch.cat([layer(x[b : b + 1], memory[b : b + 1], Padding(LENGTHS[b : b + 1])) for b in range(B)])

    near(together(x), alone(x))
    for ours, expected in zip(
        gradients(layer, x, together, upstream), gradients(layer, x, alone, upstream), strict=True
    ):
        near(ours, expected, atol=1e-11)


@pytest.mark.parametrize("name", LAYER_SCORES)
def test_padding_is_as_if_it_were_not_there(name: str) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(E, H, score=LAYER_SCORES[name](D, H), sink=LearnedSink(H))
    randomised(layer)
    x, memory = normal(B, Q, E), normal(B, K, E, seed=2)
    spoiled = memory.clone()
    spoiled[1, 3:] = torch.nan
    whole = layer(x, spoiled, Padding(LENGTHS))
    for b, n in enumerate(LENGTHS.tolist()):
        near(whole[b : b + 1], layer(x[b : b + 1], memory[b : b + 1, :n]))
    # self-attention, where queries and keys are padded alike, and positions count from the start
    layer.position_bias = full_layer(name).position_bias
    near(layer(x, mask=Padding(torch.tensor([Q, 3])))[1:, :3], layer(x[1:, :3]))
