"""`Attention`: Bahdanau's and Luong's forms from their equations, and step by step as at once."""

import pytest
import torch
from torch import Tensor, nn

from oracles.layer_options import LAYER_SCORES, randomised
from regard import record
from regard.attention import Dot, GaussianFactor, Near, Padding, ScaledDot
from regard.errors import ArgumentError
from regard.layers import AdditiveScore, Attention, GeneralScore, StepwiseAttention, additive_attention

B, T, S = 2, 5, 7  # target and source positions
STATE, MEMORY, WIDTH = 11, 13, 3
LENGTHS = torch.tensor([S, 4])


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def one_at_a_time(score, states: Tensor, memory: Tensor) -> Tensor:
    """The context of each state by the loop of the papers: energies, softmax over the source, weighted sum."""
    contexts = torch.zeros(B, T, memory.shape[-1], dtype=torch.float64)
    for b in range(B):
        for t in range(T):
            energies = torch.stack([score(states[b, t], memory[b, j]) for j in range(int(LENGTHS[b]))])
            weights = energies.exp() / energies.exp().sum()
            contexts[b, t] = sum(w * memory[b, j] for j, w in enumerate(weights))
    return contexts


def test_bahdanau() -> None:
    torch.manual_seed(0)
    layer = additive_attention(STATE, MEMORY, WIDTH)
    randomised(layer, 0.8)
    w, u, v = layer.query.weight, layer.key.weight, layer.score.v
    assert (w.shape, u.shape, v.shape) == ((WIDTH, STATE), (WIDTH, MEMORY), (WIDTH,))
    states, memory = normal(B, T, STATE), normal(B, S, MEMORY, seed=2)
    expected = one_at_a_time(lambda s, h: v @ torch.tanh(w @ s + u @ h), states, memory)
    near(layer(states, memory, Padding(LENGTHS)), expected)


def test_luongs_concat_is_the_same_with_its_matrix_in_two() -> None:
    torch.manual_seed(0)
    layer = additive_attention(STATE, MEMORY, WIDTH)
    joined, v = normal(WIDTH, STATE + MEMORY, seed=3), normal(WIDTH, seed=4)
    layer.double().load_state_dict({"query.weight": joined[:, :STATE], "key.weight": joined[:, STATE:], "score.v": v})
    states, memory = normal(B, T, STATE), normal(B, S, MEMORY, seed=2)
    expected = one_at_a_time(lambda s, h: v @ torch.tanh(joined @ torch.cat([s, h])), states, memory)
    near(layer(states, memory, Padding(LENGTHS)), expected)


def test_luongs_general_and_dot() -> None:
    torch.manual_seed(0)
    states, memory = normal(B, T, STATE), normal(B, S, MEMORY, seed=2)
    general = Attention(GeneralScore(STATE, key_width=MEMORY))
    randomised(general, 0.3)
    w = general.score.weight
    assert w.shape == (STATE, MEMORY)
    near(general(states, memory, Padding(LENGTHS)), one_at_a_time(lambda s, h: s @ w @ h, states, memory))
    folded = Attention(Dot(), key=nn.Linear(MEMORY, STATE, bias=False)).double()
    folded.load_state_dict({"key.weight": w})
    near(folded(states, memory, Padding(LENGTHS)), general(states, memory, Padding(LENGTHS)))
    dot = Attention(Dot())
    assert not list(dot.parameters())
    states = normal(B, T, MEMORY)
    near(dot(states, memory, Padding(LENGTHS)), one_at_a_time(lambda s, h: s @ h, states, memory))


def test_luongs_local_p() -> None:
    """Eq. 9 and 10: only keys within D of the predicted place, their weights times a Gaussian around it."""
    torch.manual_seed(0)
    layer, radius = Attention(Dot()), 2.0
    states, memory = 0.4 * normal(B, T, MEMORY), normal(B, S, MEMORY, seed=2)
    place = torch.sigmoid(normal(B, T, seed=3)) * LENGTHS[:, None]
    mask = Padding(LENGTHS) & Near(place, radius)
    with record(layer) as recording:
        context = layer(states, memory, mask, GaussianFactor(place, radius / 2))
    j = torch.arange(S)
    seen = ((j - place[..., None]).abs() <= radius) & (j < LENGTHS[:, None, None])
    weights = (states @ memory.transpose(1, 2)).masked_fill(~seen, -torch.inf).softmax(-1)
    weights = weights * torch.exp(-2.0 * (j - place[..., None]) ** 2 / radius**2)
    near(context, weights @ memory)
    near(recording["operator"].dense(), weights)
    near(recording["operator"].mass(), weights.sum(-1))


@pytest.mark.parametrize("name", LAYER_SCORES)
def test_step_by_step_is_at_once(name: str) -> None:
    torch.manual_seed(0)
    layer = Attention(
        LAYER_SCORES[name](WIDTH, 1), query=nn.Linear(STATE, WIDTH), key=nn.Linear(MEMORY, WIDTH), value=nn.Tanh()
    )
    randomised(layer, 0.5)
    states, memory, mask = normal(B, T, STATE), normal(B, S, MEMORY, seed=2), Padding(LENGTHS)
    whole = layer(states, memory, mask)
    known = layer.keys_values(memory)
    assert known.keys.shape == (B, S, WIDTH) and known.values.shape == (B, S, MEMORY)
    near(known.values, memory.tanh())
    for t in range(T):
        step = layer.attend_to(layer.queries(states[:, t : t + 1]), known, mask)
        near(step, whole[:, t : t + 1])
    near(layer(states[1, 2:3], memory[1, :4]), whole[1, 2:3])  # one state and one sentence, without a batch


def test_the_memory_is_projected_once() -> None:
    calls = []
    layer = additive_attention(STATE, MEMORY, WIDTH).double()
    layer.key.register_forward_hook(lambda *_: calls.append(1))
    known = layer.keys_values(normal(B, S, MEMORY))
    for _ in range(3):
        layer.attend_to(layer.queries(normal(B, 1, STATE)), known)
    assert len(calls) == 1


def test_dropout_only_in_training() -> None:
    torch.manual_seed(0)
    layer = additive_attention(STATE, MEMORY, WIDTH, dropout=0.5).double()
    states, memory = normal(B, T, STATE), normal(B, S, MEMORY)
    assert not torch.equal(layer(states, memory), layer(states, memory))
    layer.eval()
    assert torch.equal(layer(states, memory), layer(states, memory))


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="score must be a Score, or a Maker of one, not float"):
        Attention(1.0)
    with pytest.raises(ArgumentError, match=r"same width: q is .*11.*, k is .*13"):
        Attention(ScaledDot())(normal(B, T, STATE), normal(B, S, MEMORY))


@pytest.mark.parametrize("kind", [Attention, StepwiseAttention])
def test_under_autocast_projected_and_plain_vectors_meet_in_one_precision(kind: type[Attention]) -> None:
    torch.manual_seed(3)
    layer = kind(AdditiveScore(8), query=nn.Linear(8, 8), key=nn.Linear(6, 8))
    query, memory = torch.randn(2, 1, 3, 8), torch.randn(2, 1, 5, 6)
    exact = layer(query, memory)
    with torch.autocast("cpu", torch.bfloat16):
        q, known = layer.queries(query), layer.keys_values(memory)
        assert q.dtype == torch.bfloat16 and known.values.dtype == torch.float32
        with record(layer) as recording:
            context = layer.attend_to(q, known)
        assert recording["operator"].shape == (2, 1, 3, 5)
    stepwise = kind is StepwiseAttention  # a recurrence's is computed in full precision
    assert known.keys.dtype == (torch.float32 if stepwise else torch.bfloat16)
    assert context.dtype == known.keys.dtype
    torch.testing.assert_close(context.float(), exact, atol=0.05, rtol=0.05)
    if stepwise:
        torch.testing.assert_close(context, layer.attend_step(q.float(), known), atol=1e-6, rtol=0)


def test_a_stepwise_attention_called_at_once_is_an_attention() -> None:
    torch.manual_seed(3)
    parts = {"query": nn.Linear(STATE, WIDTH), "key": nn.Linear(MEMORY, WIDTH)}
    plain, stepwise = Attention(Dot(), **parts).double(), StepwiseAttention(Dot(), **parts).double()
    states, memory, mask = normal(B, T, STATE), normal(B, S, MEMORY, seed=2), Padding(LENGTHS)
    with record(plain) as expected, record(stepwise) as recording:
        near(stepwise(states, memory, mask), plain(states, memory, mask))
    near(recording["operator"].dense(), expected["operator"].dense())
    assert not torch.equal(memory[:, :T, :STATE], plain(states, memory, mask)[..., :STATE])


def test_stepwise_attention_does_not_mix_dtypes_by_itself() -> None:
    layer = StepwiseAttention(Dot())
    with pytest.raises(ArgumentError, match=r"q is torch.float64 .*k is torch.float32"):
        layer(normal(B, T, MEMORY), normal(B, S, MEMORY).float())
