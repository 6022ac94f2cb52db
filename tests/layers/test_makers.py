"""Parameters of scores, biases and sinks in layers: who owns them, how they start, what is saved with them."""

import pytest
import torch
from torch import Tensor, nn

from oracles.layer_options import LAYER_SCORES, randomised
from regard import AttentionMap
from regard.attention import Additive, ALiBi, Causal, Cosine, GaussianFactor, General, RelativeBias, Score
from regard.errors import ArgumentError
from regard.layers import (
    AdditiveScore,
    CausalSelfAttention,
    Fixed,
    GeneralScore,
    LearnedSink,
    Maker,
    MultiHeadAttention,
    RelativePositionBias,
    SelfAttention,
    SimpleSelfAttention,
)

B, Q, K, H, D = 2, 5, 7, 3, 11
E = H * D


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_names_of_parameters_and_of_saved_models() -> None:
    plain = {"input.weight", "input.bias", "output.weight", "output.bias"}
    assert set(MultiHeadAttention(E, H).state_dict()) == plain
    assert set(MultiHeadAttention(E, H, score=Cosine(), position_bias=ALiBi(), softcap=5.0).state_dict()) == plain
    layer = MultiHeadAttention(
        E, H, score=AdditiveScore(D, H), position_bias=RelativePositionBias(H), sink=LearnedSink(H)
    )
    shapes = {name: tuple(x.shape) for name, x in layer.state_dict().items() if name not in plain}
    assert shapes == {"score.v": (H, D), "position_bias.table": (32, H), "sink.logits": (H,)}
    assert {name for name, _ in MultiHeadAttention(E, H, score=GeneralScore(D)).named_parameters()} == {
        *plain,
        "score.weight",
    }
    assert set(SelfAttention(5, 7, score=AdditiveScore(7)).state_dict()) == {
        "query.weight",
        "key.weight",
        "value.weight",
        "score.v",
    }


def test_makers_give_the_values_of_the_operator() -> None:
    general, additive, bias = GeneralScore(D, H, key_width=5), AdditiveScore(D), RelativePositionBias(H, 8, 20, False)
    made = general(), additive(), bias()
    assert isinstance(made[0], General) and made[0].weight is general.weight and general.weight.shape == (H, D, 5)
    assert isinstance(made[1], Additive) and made[1].v is additive.v and additive.v.shape == (D,)
    assert isinstance(made[2], RelativeBias) and made[2].table is bias.table
    assert (made[2].bidirectional, made[2].max_distance) == (False, 20)
    assert Fixed(made[1])() is made[1]


@pytest.mark.parametrize("name", ["scaled dot", "general", "general per head", "additive", "additive per head"])
def test_fresh_scores_have_about_unit_variance(name: str) -> None:
    torch.manual_seed(0)
    heads, width = 8, 64
    layer = MultiHeadAttention(heads * width, heads, score=LAYER_SCORES[name](width, heads))
    q, known = layer.project(torch.randn(3, 31, heads * width))
    scores = layer.score().formula(q, known.keys).detach()
    assert 0.4 < float(scores.std()) < 1.3
    assert float(scores.std((2, 3)).min()) > 0.1  # in each head


def test_fresh_biases_and_sinks() -> None:
    torch.manual_seed(0)
    assert 0.015 < float(RelativePositionBias(16, 128).table.detach().std()) < 0.025
    # the sink is one more key whose score is 0
    layer = MultiHeadAttention(E, H, sink=LearnedSink(H)).double()
    q, known = layer.project(normal(B, K, E))
    table = AttentionMap(q, known.keys, sink=layer.sink())
    exp = (q @ known.keys.transpose(-1, -2) / D**0.5).exp().sum(-1)
    torch.testing.assert_close(table.mass(), (exp / (1 + exp)).detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("key_heads", [1, None])
@pytest.mark.parametrize("name", LAYER_SCORES)
def test_every_option_of_multihead_attention_is_its_formula(name: str, key_heads: int | None) -> None:
    torch.manual_seed(0)
    cap = None if "kernel" in name else 2.0  # which has similarities instead of scores
    layer = MultiHeadAttention(
        E,
        H,
        key_heads=key_heads,
        score=LAYER_SCORES[name](D, H),
        position_bias=RelativePositionBias(H, 8, 6),
        softcap=cap,
        sink=LearnedSink(H),
    )
    randomised(layer)
    x, memory, centre = normal(B, Q, E), normal(B, K, E, seed=2), 3 * normal(B, 1, Q, seed=3)
    context = layer(x, memory, Causal(), GaussianFactor(centre, 2.0))

    q, known = layer.queries(x), layer.keys_values(memory)
    k, v = (part.repeat_interleave(H // part.shape[1], 1) for part in known)
    scores = layer.score().formula(q, k)
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    away = torch.arange(K) - (torch.arange(Q)[:, None] + K - Q)
    bucket = torch.tensor([0, 1, 2, 2, 3, 3, 3])[(-away).clamp(min=0)]  # of 8, half are for keys after the query
    scores = (scores + layer.position_bias().table[bucket].permute(2, 0, 1)).masked_fill(away > 0, -torch.inf)
    sink = layer.sink().view(1, H, 1, 1).expand(B, H, Q, 1)
    weights = torch.cat([scores, sink], -1).softmax(-1)[..., :K]
    weights = weights * torch.exp(-((torch.arange(K) - centre[..., None]) ** 2) / 8)
    expected = layer.output((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(context, expected, atol=1e-12, rtol=1e-9)

    if name == "kernel relu":  # whose logarithm has no gradient at 0
        return
    names = [name for name, _ in layer.named_parameters()]
    found = torch.autograd.grad(context.square().sum(), list(layer.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    for parameter, ours, theirs in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8, msg=lambda m, n=parameter: f"{n}: {m}")
        assert ours.abs().max() > 1e-6, parameter


@pytest.mark.parametrize("name", LAYER_SCORES)
def test_self_attention_with_any_score(name: str) -> None:
    torch.manual_seed(0)
    x = normal(B, Q, 5)
    layer = SelfAttention(5, D, score=LAYER_SCORES[name](D, 1)).double()
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    scores = layer.score().formula(q[:, None], k[:, None])[:, 0]
    torch.testing.assert_close(layer(x), scores.softmax(-1) @ v, atol=1e-12, rtol=1e-9)
    causal = CausalSelfAttention(5, D, score=layer.score)
    causal.load_state_dict(layer.state_dict())
    barred = torch.ones(Q, Q).triu(1).bool()
    expected = scores.masked_fill(barred, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(causal.double()(x), expected, atol=1e-12, rtol=1e-9)


def test_self_attention_without_weights_with_another_score() -> None:
    x = normal(Q, 5)
    unit = x / x.norm(dim=-1, keepdim=True)
    expected = (4.0 * unit @ unit.T).softmax(-1) @ x
    torch.testing.assert_close(SimpleSelfAttention(Cosine(4.0))(x), expected, atol=1e-12, rtol=0)


def test_a_table_may_serve_several_layers() -> None:
    bias = RelativePositionBias(H, 8, 6)
    layers = nn.ModuleList(MultiHeadAttention(E, H, position_bias=bias) for _ in range(3))
    assert sum(p.shape == (8, H) for p in layers.parameters()) == 1
    x = torch.randn(B, Q, E)
    for layer in layers:
        x = layer(x)
    x.sum().backward()
    assert bias.table.grad is not None and bias.table.grad.any()


def test_a_score_of_ones_own_is_one_small_class() -> None:
    class Temperature(Maker[Score]):
        def __init__(self) -> None:
            super().__init__()
            self.log = nn.Parameter(torch.zeros(D))

        def forward(self) -> Score:
            return General(torch.diag(self.log.exp()))

    layer = MultiHeadAttention(E, H, score=Temperature())
    layer(torch.randn(B, Q, E)).sum().backward()
    assert layer.get_parameter("score.log").grad.abs().min() > 0


def test_a_parameter_given_as_a_sink_belongs_to_the_layer() -> None:
    layer = MultiHeadAttention(E, H, sink=nn.Parameter(torch.ones(H)))
    assert {n for n, _ in layer.named_parameters()} >= {"sink.value"}


def test_what_is_given_is_checked() -> None:
    with pytest.raises(ArgumentError, match="score must be a Score, or a Maker of one, not str"):
        MultiHeadAttention(E, H, score="additive")
    with pytest.raises(ArgumentError, match="score must be a Score, or a Maker of one, not Linear"):
        SelfAttention(5, 7, score=nn.Linear(7, 7))
    with pytest.raises(ArgumentError, match="position_bias must be a Bias, or a Maker of one, not Embedding"):
        MultiHeadAttention(E, H, position_bias=nn.Embedding(32, H))
    with pytest.raises(ArgumentError, match="sink must be a Tensor, or a Maker of one, not bool"):
        MultiHeadAttention(E, H, sink=True)
    with pytest.raises(ArgumentError, match=r"Additive: v has 2 heads, q has 3"):
        MultiHeadAttention(E, H, score=AdditiveScore(D, 2))(torch.randn(B, Q, E))
    with pytest.raises(ArgumentError, match=r"RelativeBias: table is \(32, 2\): expected \(buckets, 3\)"):
        MultiHeadAttention(E, H, position_bias=RelativePositionBias(2))(torch.randn(B, Q, E))


@pytest.mark.parametrize(
    "given", [Additive(torch.nn.Parameter(torch.ones(3))), General(torch.nn.Parameter(torch.ones(3, 3)))], ids=str
)
def test_a_parameter_that_nobody_would_train_is_refused(given: Score) -> None:
    with pytest.raises(ArgumentError, match=f"score: a {type(given).__name__} with a parameter .* AdditiveScore"):
        MultiHeadAttention(6, 2, score=given)
