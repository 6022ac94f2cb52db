"""The Transformer against torch's with the same weights: hidden states and gradients in float64."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from regard.layers import MultiHeadAttention, SinusoidalPositions
from regard.models.transformer import Transformer, TransformerConfig, build_transformer

B, S, T = 3, 7, 5
CONFIG = TransformerConfig(
    source_vocabulary=17,
    target_vocabulary=19,
    encoder_layers=2,
    decoder_layers=3,
    width=22,
    feedforward=13,
    heads=2,
    max_length=11,
    shared="none",
)
Pairs = list[tuple[nn.Parameter, nn.Parameter]]


def build(config: TransformerConfig) -> Transformer:
    """Random values in every parameter: fresh biases and norms would hide mistakes."""
    torch.manual_seed(0)
    model = build_transformer(config).double().eval()
    for name, parameter in model.named_parameters():
        centre = 1.0 if "norm.weight" in name else 0.0
        nn.init.normal_(parameter, centre, 0.3)
    return model


def torch_twin(config: TransformerConfig) -> nn.Transformer:
    """torch's has a norm after both stacks; the paper's post-norm model doesn't."""
    settings = (config.width, config.heads, config.feedforward, config.dropout)
    pre = config.norm == "pre"
    encoder_layer = nn.TransformerEncoderLayer(*settings, batch_first=True, norm_first=pre)
    decoder_layer = nn.TransformerDecoderLayer(*settings, batch_first=True, norm_first=pre)
    norms = [nn.LayerNorm(config.width) if pre else None for _ in range(2)]
    return (
        nn.Transformer(
            config.width,
            config.heads,
            batch_first=True,
            custom_encoder=nn.TransformerEncoder(
                encoder_layer, config.encoder_layers, norms[0], enable_nested_tensor=False
            ),
            custom_decoder=nn.TransformerDecoder(decoder_layer, config.decoder_layers, norms[1]),
        )
        .double()
        .eval()
    )


def attention_pairs(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> Pairs:
    assert theirs.in_proj_weight is not None and theirs.in_proj_bias is not None
    return [
        (ours.input.weight, theirs.in_proj_weight),
        (ours.input.bias, theirs.in_proj_bias),
        (ours.output.weight, theirs.out_proj.weight),
        (ours.output.bias, theirs.out_proj.bias),
    ]


def pairs(model: Transformer, twin: nn.Transformer) -> Pairs:
    """Which parameter is which: all of them."""
    found: Pairs = []
    for ours, theirs in zip(model.encoder.layers, twin.encoder.layers, strict=True):
        found += attention_pairs(ours.attention, theirs.self_attn)
        modules = [
            (ours.attention_residual.norm, theirs.norm1),
            (ours.feedforward.inner, theirs.linear1),
            (ours.feedforward.outer, theirs.linear2),
            (ours.feedforward_residual.norm, theirs.norm2),
        ]
        found += [(getattr(a, n), getattr(b, n)) for a, b in modules for n in ("weight", "bias")]
    for ours, theirs in zip(model.decoder.layers, twin.decoder.layers, strict=True):
        found += attention_pairs(ours.attention, theirs.self_attn)
        found += attention_pairs(ours.cross, theirs.multihead_attn)
        modules = [
            (ours.attention_residual.norm, theirs.norm1),
            (ours.cross_residual.norm, theirs.norm2),
            (ours.feedforward.inner, theirs.linear1),
            (ours.feedforward.outer, theirs.linear2),
            (ours.feedforward_residual.norm, theirs.norm3),
        ]
        found += [(getattr(a, n), getattr(b, n)) for a, b in modules for n in ("weight", "bias")]
    for a, b in ((model.encoder.norm, twin.encoder.norm), (model.decoder.norm, twin.decoder.norm)):
        if b is not None:
            found += [(getattr(a, n), getattr(b, n)) for n in ("weight", "bias")]
    assert len(found) == len(list(twin.parameters()))
    return found


def embedded(table: Tensor, ids: Tensor) -> Tensor:
    width = table.shape[1]
    return table[ids] * width**0.5 + SinusoidalPositions(ids.shape[1], width)(0, ids.shape[1]).double()


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("lengths", [[7, 7, 7], [7, 2, 5]])
def test_hidden_states_and_gradients(norm: str, lengths: list[int]) -> None:
    config = replace(CONFIG, norm=norm)
    model, twin = build(config), torch_twin(config)
    matched = pairs(model, twin)
    with torch.no_grad():
        for ours, theirs in matched:
            theirs.copy_(ours)
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(0, 17, (B, S), generator=generator)
    target = torch.randint(0, 19, (B, T), generator=generator)
    source_table = model.encoder.embedding.tokens.weight.detach().clone().requires_grad_()
    target_table = model.decoder.embedding.tokens.weight.detach().clone().requires_grad_()
    padding = torch.arange(S)[None] >= torch.tensor(lengths)[:, None]

    ours = model(source, torch.tensor(lengths), target)
    theirs = twin(
        embedded(source_table, source),
        embedded(target_table, target),
        tgt_mask=torch.ones(T, T).triu(1).bool(),
        src_key_padding_mask=padding,
        memory_key_padding_mask=padding,
    )
    assert ours.shape == (B, T, config.width)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)

    upstream = torch.randn(B, T, config.width, generator=generator, dtype=torch.float64)
    ours.backward(upstream)
    theirs.backward(upstream)
    matched += [
        (model.encoder.embedding.tokens.weight, source_table),
        (model.decoder.embedding.tokens.weight, target_table),
    ]
    for a, b in matched:
        torch.testing.assert_close(a.grad, b.grad, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_encoder_alone(norm: str) -> None:
    config = replace(CONFIG, norm=norm)
    model, twin = build(config), torch_twin(config)
    with torch.no_grad():
        for ours, theirs in pairs(model, twin):
            theirs.copy_(ours)
    source = torch.randint(0, 17, (B, S), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([7, 2, 5])
    padding = torch.arange(S)[None] >= lengths[:, None]
    state = model.start(source, lengths)
    memory = twin.encoder(embedded(model.encoder.embedding.tokens.weight, source), src_key_padding_mask=padding)
    for i, layer in enumerate(model.decoder.layers):
        keys, values = layer.cross.keys_values(memory)
        for b, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(state.sentence["memory"][b, i, 0, :, :n], keys[b, :, :n], atol=1e-10, rtol=0)
            torch.testing.assert_close(state.sentence["memory"][b, i, 1, :, :n], values[b, :, :n], atol=1e-10, rtol=0)
