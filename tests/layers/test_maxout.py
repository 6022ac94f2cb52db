"""`Maxout` from its definition."""

import pytest
import torch
from torch import Tensor, nn

from regard.errors import ArgumentError
from regard.layers.maxout import Maxout


def set_to(layer: Maxout, weight: Tensor, bias: Tensor) -> Maxout:
    with torch.no_grad():
        layer.linear.weight.copy_(weight)
        layer.linear.bias.copy_(bias)
    return layer


def test_by_hand() -> None:
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    layer = set_to(Maxout(2, 2), weight, torch.tensor([0.0, 0.5, 0.0, 1.0]))
    # (3, 1): max(3, 1.5) and max(4, −3); (−1, 1): max(−1, 1.5) and max(0, 1)
    assert layer(torch.tensor([[3.0, 1.0], [-1.0, 1.0]])).tolist() == [[3.0, 4.0], [1.5, 1.0]]


def test_absolute_value_is_two_pieces() -> None:
    layer = set_to(Maxout(1, 1), torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    x = torch.linspace(-2.0, 2.0, 9)[:, None]
    assert torch.equal(layer(x), x.abs())


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("axes", [(), (4,), (2, 0, 3), (2, 1, 3)])
def test_any_axes_and_pieces(pieces: int, axes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = Maxout(5, 7, pieces).double()
    x = torch.randn(*axes, 5, dtype=torch.float64)
    weight, bias = layer.linear.weight.view(7, pieces, 5), layer.linear.bias.view(7, pieces)
    expected = torch.stack([x @ weight[:, p].T + bias[:, p] for p in range(pieces)]).amax(0)
    assert layer(x).shape == (*axes, 7)
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)


def test_one_piece_is_a_linear_layer() -> None:
    layer, linear = Maxout(3, 4, 1), nn.Linear(3, 4)
    linear.load_state_dict(layer.linear.state_dict())
    x = torch.randn(2, 3)
    torch.testing.assert_close(layer(x), linear(x))


def test_memory_that_does_not_lie_together() -> None:
    layer, x = Maxout(5, 3), torch.randn(4, 2, 5)
    torch.testing.assert_close(layer(x.transpose(0, 1)), layer(x).transpose(0, 1))


def test_gradient_goes_to_the_largest_piece() -> None:
    layer = set_to(Maxout(1, 1, 3), torch.tensor([[1.0], [3.0], [2.0]]), torch.zeros(3))
    layer(torch.tensor([2.0])).sum().backward()
    grad = layer.linear.weight.grad
    assert grad is not None and grad.tolist() == [[0.0], [2.0], [0.0]]
    torch.manual_seed(0)
    layer = Maxout(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


@pytest.mark.parametrize(("arguments", "name"), [((3, 0), "width is 0"), ((3, 2, 0), "pieces is 0")])
def test_sizes_below_one_are_errors(arguments: tuple[int, ...], name: str) -> None:
    with pytest.raises(ArgumentError, match=f"Maxout: {name}: expected 1 or more"):
        Maxout(*arguments)
