"""What a Transformer must do whatever its weights: causality, invariances, gradients everywhere; and it learns."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regard.errors import ArgumentError
from regard.layers import Attend, linear_cross_entropy
from regard.models.transformer import Transformer, TransformerConfig, build_transformer
from regard.tasks.translation import Specials, collate, translation_loss

B, S, T = 3, 7, 5
CONFIG = TransformerConfig(
    source_vocabulary=17,
    target_vocabulary=17,
    encoder_layers=2,
    decoder_layers=2,
    width=12,
    feedforward=13,
    heads=3,
    max_length=11,
)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "pre"},
    {"positions": "learned"},
    {"norm": "pre", "positions": "learned", "key_heads": 1, "shared": "none"},
    {"positions": "learned", "embedding_norm": True, "embedding_scale": False, "activation": "gelu"},
    {"norm": "pre", "positions": "tensor2tensor", "activation": "silu", "output_bias": True},
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(str(x) for x in v.values()) or "paper")


def build(variant: dict[str, Any]) -> Transformer:
    torch.manual_seed(0)
    return build_transformer(replace(CONFIG, **variant)).double().eval()


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(seed))


@variants
def test_a_later_target_token_changes_nothing_earlier(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, lengths, target = ids(B, S), torch.tensor([7, 2, 5]), ids(B, T, seed=2)
    hidden = model(source, lengths, target)
    for t in range(T):
        changed = target.clone()
        changed[:, t] = (changed[:, t] + 1) % 17
        other = model(source, lengths, changed)
        torch.testing.assert_close(other[:, :t], hidden[:, :t], atol=1e-13, rtol=0)
        assert ((other[:, t:] - hidden[:, t:]).abs().amax(-1) > 1e-6).all()


@variants
def test_no_target_token_is_seen_through_gradients(variant: dict[str, Any]) -> None:
    model = build(variant)
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    model.decoder.embedding.register_forward_hook(keep)
    hidden = model(ids(B, S), torch.tensor([7, 2, 5]), ids(B, T, seed=2))
    hidden[:, 2, ::2].sum().backward()  # the sum of all of a normalised vector would be constant
    assert seen[0].grad is not None
    reached = seen[0].grad.abs().amax(-1) > 0  # (B, T)
    assert reached.tolist() == [[True, True, True, False, False]] * B


@variants
def test_source_padding_is_invisible(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, lengths, target = ids(B, S), torch.tensor([7, 2, 5]), ids(B, T, seed=2)
    hidden = model(source, lengths, target)
    padding = torch.arange(S)[None] >= lengths[:, None]
    other = source.masked_fill(padding, 3)
    assert not torch.equal(other, source)
    torch.testing.assert_close(model(other, lengths, target), hidden, atol=1e-12, rtol=0)
    longer = torch.cat([source, ids(B, 4, seed=3)], 1)
    torch.testing.assert_close(model(longer, lengths, target), hidden, atol=1e-12, rtol=0)
    # but what is not padding is seen
    shorter = model(source, torch.tensor([7, 2, 4]), target)
    assert (shorter[2] - hidden[2]).abs().max().item() > 1e-6


@variants
def test_a_batch_equals_one_by_one(variant: dict[str, Any]) -> None:
    model = build(variant)
    source, lengths, target = ids(B, S), torch.tensor([7, 2, 5]), ids(B, T, seed=2)
    hidden = model(source, lengths, target)
    for b, n in enumerate(lengths.tolist()):
        alone = model(source[b : b + 1, :n], lengths[b : b + 1], target[b : b + 1])
        torch.testing.assert_close(hidden[b : b + 1], alone, atol=1e-12, rtol=0)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(source[order], lengths[order], target[order]), hidden[order], atol=1e-12, rtol=0)


@variants
def test_a_gradient_reaches_every_parameter(variant: dict[str, Any]) -> None:
    model = build(variant).train()
    source, target = ids(B, S), ids(B, T, seed=2)
    hidden = model(source, torch.tensor([7, 2, 5]), target)
    output = model.output
    linear_cross_entropy(hidden.flatten(0, 1), output.weight, target.flatten(), 0.1, output.bias).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        if name.endswith("embedding.positions.table"):
            rows = S if name.startswith("encoder") else T
            assert (parameter.grad.abs().amax(1) > 0).tolist() == [True] * rows + [False] * (11 - rows)
        elif parameter.dim() == 2 and "tokens" not in name:
            assert bool((parameter.grad.abs().amax(1) > 0).any()), name
            # queries, keys and values each
            assert all(bool(part.any()) for part in parameter.grad.chunk(5)), name
        else:
            assert bool(parameter.grad.any()), name


def test_word_order_matters() -> None:
    model = build({})
    source, target = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 2]])
    lengths = torch.tensor([5])
    assert not torch.allclose(model(source, lengths, target), model(source.flip(1), lengths, target), atol=1e-6)


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)])
def test_dropout_only_in_training(rates: tuple[float, float]) -> None:
    model = build({"dropout": rates[0], "attention_dropout": rates[1]})
    arguments = (ids(B, S), torch.tensor([7, 2, 5]), ids(B, T, seed=2))
    assert torch.equal(model(*arguments), model(*arguments))
    model.train()
    assert not torch.equal(model(*arguments), model(*arguments))


def test_each_dropout_has_its_rate() -> None:
    model = build({"dropout": 0.3, "attention_dropout": 0.2})
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.3] * (2 + 2 * 2 + 2 * 3)  # two embeddings, two sub-layers of the encoder's layers, three
    rates = [module.dropout for module in model.modules() if isinstance(module, Attend)]
    assert rates == [0.2] * (2 + 2 * 2)


def test_sequences_past_the_last_position_are_errors() -> None:
    model = build({})
    with pytest.raises(ArgumentError, match="position 11 is past the last one, 10"):
        model(ids(1, 12), torch.tensor([12]), ids(1, 3))
    with pytest.raises(ArgumentError, match="position 11 is past the last one, 10"):
        model(ids(1, 3), torch.tensor([3]), ids(1, 12))
    with pytest.raises(ArgumentError, match="Padding"):
        model(ids(2, 3), torch.tensor([3]).expand(3), ids(2, 3))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_learns_to_copy(norm: str) -> None:
    torch.manual_seed(0)
    config = replace(
        CONFIG, norm=norm, encoder_layers=1, decoder_layers=1, width=32, feedforward=64, heads=2, dropout=0.0
    )
    model = build_transformer(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    value = torch.inf
    for _ in range(150):
        source = torch.randint(3, 17, (32, 5), generator=generator)
        target = torch.cat([source.new_full((32, 1), 1), source], 1)  # <bos> and the same again
        hidden = model(source, torch.full((32,), 5), target[:, :-1])
        loss = linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, source.flatten()) / source.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
    assert value < 0.1  # guessing gives log 14 = 2.6


@variants
def test_the_loss_of_translation_is_that_of_the_logits(variant: dict[str, Any]) -> None:
    model = build(variant)
    if model.output.bias is not None:
        nn.init.normal_(model.output.bias)
    batch = collate([[3, 4, 5], [6]], [[7, 8], [9, 10, 11]], Specials(0, 1, 2, 0, 2), torch.device("cpu"))
    loss, count = translation_loss(model, batch, 0.1)
    logits = model.output(model(batch.sources.tokens, batch.sources.lengths, batch.inputs))[batch.real]
    expected = nn.functional.cross_entropy(logits, batch.outputs[batch.real], label_smoothing=0.1, reduction="sum")
    assert count == 7
    torch.testing.assert_close(loss, expected)
