"""Every encoder–decoder model in training: gradients, what is kept for them, recomputation, dropout, precision."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor, nn

from models.small_models import CASES, LENGTHS, SOURCE, TARGET, Case, build, cases, fresh, ids, near
from regard.layers import linear_cross_entropy
from regard.models.encoder_decoder import EncoderDecoder
from regard.training.recompute import recompute

WIDE, MANY = 96, 8
sees = pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.sees], ids=[name for name, case in CASES.items() if case.sees]
)


def gradients(model: EncoderDecoder, target: Tensor = TARGET) -> dict[str, Tensor | None]:
    """Of a training step with dropout that always draws the same."""
    model.zero_grad()
    torch.manual_seed(7)
    hidden = model(SOURCE, LENGTHS, target)
    linear_cross_entropy(hidden.flatten(0, 1), model.output.weight, target.flatten(), 0.1).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@cases
def test_a_gradient_reaches_every_parameter(case: Case) -> None:
    for name, grad in gradients(build(case).train()).items():
        assert grad is not None and bool(grad.isfinite().all()), name
        assert bool(grad.any()), name
        if grad.ndim == 2 and "tokens" not in name and not name.startswith("output"):
            assert all(bool(part.any()) for part in grad.chunk(3)), name  # of each gate, and of q, k and v


@cases
def test_recomputed_blocks_give_the_same_gradients(case: Case) -> None:
    model = fresh(replace(case.config, dropout=0.3)).double().train()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [id(parameter) for block in model.blocks() for parameter in block.parameters()]
    assert len(held) == len(set(held)) > 0 and names.keys() >= set(held)
    calls = []
    for block in model.blocks():
        block.register_forward_hook(lambda *_: calls.append(1))
    expected = gradients(model)
    assert len(calls) == len(model.blocks())  # each is called, so that it can be recomputed and sharded
    recompute(model.blocks())
    for name, grad in gradients(model).items():
        other = expected[name]
        assert grad is not None and other is not None
        near(grad, other, 1e-12)
    assert list(model.state_dict()) == list(fresh(case.config).state_dict())


@cases
def test_dropout_only_in_training(case: Case) -> None:
    model = fresh(replace(case.config, dropout=0.5)).eval()
    arguments = (SOURCE, LENGTHS, TARGET)
    assert torch.equal(model(*arguments), model(*arguments))
    model.train()
    assert not torch.equal(model(*arguments), model(*arguments))
    assert all(module.p in (0.0, 0.5) for module in model.modules() if isinstance(module, nn.Dropout))
    model = fresh(case.config).train()
    assert torch.equal(model(*arguments), model(*arguments))


@cases
def test_a_target_of_one_position_has_a_gradient_for_every_parameter(case: Case) -> None:
    """Where there is none, several processes wait for each other in vain."""
    for name, grad in gradients(build(case).train(), TARGET[:, :1]).items():
        assert grad is not None and bool(grad.isfinite().all()), name


@cases
def test_bfloat16(case: Case) -> None:
    model = fresh(case.config).eval()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            hidden = model(SOURCE, LENGTHS, TARGET)
            steps, state = [], model.start(SOURCE, LENGTHS)
            for tokens in TARGET.unbind(1):
                log_probs, state = model.step(tokens, state)
                steps.append(log_probs.float())
            told = model.output(hidden).float().log_softmax(-1)
        near(torch.stack(steps, 1), told, 0.05)
        grads = torch.autograd.grad(told.square().mean(), list(model.parameters()))
        assert all(grad.dtype == torch.float32 for grad in grads)
        results.append((told, torch.cat([grad.flatten() for grad in grads])))
    (exact, expected), (rounded, actual) = results
    assert not torch.equal(rounded, exact)
    near(rounded, exact, 0.05)
    assert (actual - expected).norm() < 0.1 * expected.norm()


def kept(model: EncoderDecoder, source_length: int, target_length: int, dtype: torch.dtype) -> int:
    """Numbers of 4 bytes kept for the backward pass, parameters aside, each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, tuple[Tensor, int]] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = (x, storage.nbytes() // 4)  # held, so that no address comes twice
        return x

    lengths = torch.full((MANY,), source_length)
    lengths[0] -= 1
    half = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), half:
        model(ids(MANY, source_length), lengths, ids(MANY, target_length))
    return sum(size for _, size in seen.values())


@sees
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_table_of_target_source_and_width_is_kept(case: Case, dtype: torch.dtype) -> None:
    sizes = {x.name: WIDE for x in fields(case.config) if x.name in ("width", "attention_width")}
    model = fresh(replace(case.config, **sizes))
    corners = [kept(model, *lengths, dtype) for lengths in ((40, 12), (40, 4), (20, 12), (20, 4))]
    # what each further pair of a target and a source position costs: weights and the like, and nothing of the width
    assert (corners[0] - corners[1] - corners[2] + corners[3]) / (MANY * 20 * 8) < 8
    # each further source position by itself: its states, once
    assert (corners[1] - corners[3]) / (MANY * 20) >= WIDE
