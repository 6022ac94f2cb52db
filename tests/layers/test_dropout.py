"""`Dropout`: rates, scale, independence, and torch's behaviour at the ends."""

import pytest
import torch

from regard.layers.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rate_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((101, 1009), 3.0, dtype=dtype)
    y = Dropout(p)(x)
    assert y.dtype == dtype and y.shape == x.shape
    kept = y != 0
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - p)) < 4 * spread + 2**-16
    torch.testing.assert_close(y[kept], (x / (1 - p))[kept], rtol=0.01 if dtype == torch.bfloat16 else 1e-3, atol=0)


def test_the_gradient_goes_through_what_was_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 11, 13, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_draws_are_independent() -> None:
    torch.manual_seed(0)
    n = 1 << 18
    dropped = (Dropout(0.5)(torch.ones(n)) == 0).double() - 0.5
    for lag in range(1, 9):  # four draws share a random number
        assert abs((dropped[lag:] * dropped[:-lag]).mean().item()) < 4 * 0.25 / n**0.5
    for lane in range(4):
        assert abs(dropped[lane::4].mean().item()) < 4 * 0.5 / (n / 4) ** 0.5


def test_a_seed_repeats_it() -> None:
    x, layer = torch.ones(17, 19), Dropout(0.3)
    torch.manual_seed(5)
    first, second = layer(x), layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


def test_the_ends_and_evaluation() -> None:
    x = torch.randn(5, 7)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert Dropout(0.5)(x[:0]).shape == (0, 7)
    assert Dropout(0.5)(x.T).shape == (7, 5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)
