"""`linear_cross_entropy` against torch's cross-entropy of all logits at once."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.layers import linear_cross_entropy, loss

N, E, V = 53, 7, 31


@pytest.fixture
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 positions a chunk, the least: three of them and a rest of five."""
    monkeypatch.setattr(loss, "CHUNK", 1)


def example(dtype: torch.dtype = torch.float64, positions: int = N) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, E, generator=generator, dtype=torch.float64)
    weight = torch.randn(V, E, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, V, (positions,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, targets, label_smoothing=smoothing, reduction="sum")


def both(hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float, factor: float = 1.0) -> list[list[Tensor]]:
    """Loss and gradients of ours, and torch's in float64."""
    results = []
    for function, dtype in ((linear_cross_entropy, hidden.dtype), (plain, torch.float64)):
        h, w = (x.detach().to(dtype).requires_grad_() for x in (hidden, weight))
        value = function(h, w, targets, smoothing) * factor
        results.append([value.detach(), *torch.autograd.grad(value, (h, w))])
    return results


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("chunk", [1, 23 * V, 1 << 20])
def test_values_and_gradients(smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    ours, theirs = both(*example(), smoothing)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("several_chunks")
def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = example()
    ours, theirs = both((hidden * 1000).detach(), weight, targets, 0.1)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-12)


@pytest.mark.usefixtures("several_chunks")
def test_the_gradient_scales() -> None:
    ours, theirs = both(*example(), 0.1, factor=-1 / 37)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-12)


@pytest.mark.usefixtures("several_chunks")
def test_gradcheck() -> None:
    hidden, weight, targets = example(positions=19)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets, 0.1), (hidden, weight))


@pytest.mark.usefixtures("several_chunks")
def test_one_gradient_alone() -> None:
    hidden, weight, targets = example()
    whole = torch.autograd.grad(plain(hidden, weight, targets, 0.1), (hidden, weight))
    (a,) = torch.autograd.grad(linear_cross_entropy(hidden, weight.detach(), targets, 0.1), hidden)
    (b,) = torch.autograd.grad(linear_cross_entropy(hidden.detach(), weight, targets, 0.1), weight)
    torch.testing.assert_close((a, b), whole, atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("several_chunks")
def test_without_gradients() -> None:
    hidden, weight, targets = example()
    expected = plain(hidden, weight, targets, 0.1)
    with torch.no_grad():
        value = linear_cross_entropy(hidden, weight, targets, 0.1)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())
    value = linear_cross_entropy(hidden.detach(), weight.detach(), targets, 0.1)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())


@pytest.mark.usefixtures("several_chunks")
def test_inputs_are_left_alone() -> None:
    hidden, weight, targets = example()
    before = [x.detach().clone() for x in (hidden, weight, targets)]
    linear_cross_entropy(hidden, weight, targets, 0.1).backward()
    for x, y in zip((hidden, weight, targets), before, strict=True):
        assert torch.equal(x, y)


def test_a_view_of_the_hidden_states() -> None:
    hidden, weight, targets = example()
    wide = torch.cat([hidden.detach(), hidden.detach()], 1).requires_grad_()
    linear_cross_entropy(wide[:, E:], weight, targets, 0.1).backward()
    (expected,) = torch.autograd.grad(plain(hidden, weight, targets, 0.1), hidden)
    assert wide.grad is not None
    torch.testing.assert_close(wide.grad, torch.cat([torch.zeros_like(expected), expected], 1), atol=1e-12, rtol=0)


def test_no_targets() -> None:
    hidden, weight, targets = example(positions=0)
    value = linear_cross_entropy(hidden, weight, targets, 0.1)
    value.backward()
    assert value.item() == 0.0
    assert hidden.grad is not None and hidden.grad.shape == (0, E)
    assert weight.grad is not None and not weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_at_most_twice_the_error_of_the_plain_computation(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "CHUNK", chunk)
    hidden, weight, targets = example(dtype, positions=503)
    ours, exact = both(hidden, weight, targets, 0.1)
    value = F.cross_entropy((hidden @ weight.T), targets, label_smoothing=0.1, reduction="sum")
    same = [value.detach(), *torch.autograd.grad(value, (hidden, weight))]
    assert ours[0].dtype == torch.float32
    assert ours[1].dtype == ours[2].dtype == dtype
    for a, b, c in zip(ours, same, exact, strict=True):
        error, allowed = (a.double() - c).norm(), (b.double() - c).norm()
        assert error <= 2 * allowed + 1e-6 * c.norm()


@pytest.mark.parametrize("autocast", [False, True])
def test_mixed_precision_keeps_the_weights_gradient_in_full(autocast):
    """Half-precision products, with the weight and its gradient in float32: as autocast and torch's own loss do it."""
    torch.manual_seed(3)
    hidden = torch.randn(37, 13, dtype=torch.float64)
    weight = torch.randn(29, 13, dtype=torch.float64)
    targets = torch.randint(29, (37,))

    def gradients(x, w, run):
        x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
        run(x, w).backward()
        return x.grad.double(), w.grad.double()

    def plain(x, w):
        with torch.autocast("cpu", torch.bfloat16):
            logits = torch.nn.functional.linear(x, w)
        return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")

    def ours(x, w):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return linear_cross_entropy(x if autocast else x.bfloat16(), w, targets)

    exact = gradients(hidden, weight, lambda x, w: linear_cross_entropy(x, w, targets))
    wanted = gradients(hidden.float(), weight.float(), plain)
    found = gradients(hidden.float(), weight.float(), ours)
    for ours_, plain_, exact_ in zip(found, wanted, exact, strict=True):
        assert (ours_ - exact_).abs().max() <= 2 * (plain_ - exact_).abs().max()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("needed", [(True, True, True), (False, False, True), (True, False, False)])
@pytest.mark.usefixtures("several_chunks")
def test_a_bias_of_the_logits(smoothing: float, needed: tuple[bool, bool, bool]) -> None:
    hidden, weight, targets = example()
    bias = torch.randn(V, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [x.detach().requires_grad_(wanted) for x, wanted in zip((hidden, weight, bias), needed, strict=True)]
    ours = linear_cross_entropy(inputs[0], inputs[1], targets, smoothing, bias=inputs[2])
    logits = inputs[0] @ inputs[1].T + inputs[2]
    theirs = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    wanted = [x for x in inputs if x.requires_grad]
    for a, b in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(theirs, wanted), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    with torch.no_grad():
        without = linear_cross_entropy(inputs[0], inputs[1], targets, smoothing, inputs[2])
    torch.testing.assert_close(without, theirs.detach(), atol=1e-12, rtol=1e-12)


def test_the_gradient_of_a_half_precision_bias_is_summed_in_single() -> None:
    hidden, weight, targets = example(torch.bfloat16, 400)
    bias = torch.zeros(V, dtype=torch.bfloat16, requires_grad=True)
    (found,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, bias=bias), bias)
    exact = torch.zeros(V, dtype=torch.float64, requires_grad=True)
    logits = hidden.detach().double() @ weight.detach().double().T + exact
    (wanted,) = torch.autograd.grad(F.cross_entropy(logits, targets, reduction="sum"), exact)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, atol=0.05, rtol=0.02)
