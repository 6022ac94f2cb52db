"""Numbers for a training log against dense tables of a batch."""

import math

import pytest
import torch

from regard.attention import AttentionMap, Causal, Padding
from regard.errors import ArgumentError
from regard.insight import attention_health


def test_against_the_dense_table() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([7, 4, 0])
    table = AttentionMap(
        torch.randn(3, 6, 5, 4) * 6, torch.randn(3, 2, 7, 4), mask=Padding(lengths), sink=torch.randn(6)
    )
    real = torch.arange(5) < torch.tensor([5, 3, 5])[:, None]
    found = attention_health({"x": table}, real={"x": real}, focused_below=0.5)
    rows = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)  # the last sees nothing
    weights = table.dense().double().transpose(1, 2)[rows]  # (rows, H, K)
    normalised = weights / weights.sum(-1, keepdim=True)
    entropy = torch.special.entr(normalised).sum(-1)
    visible = lengths[:, None].expand(3, 5)[rows]
    expected = {
        "entropy": entropy.mean(0),
        "relative_entropy": (entropy / visible.log()[:, None]).mean(0),
        "first_key": weights[..., 0].mean(0),
        "sink": 1 - weights.sum(-1).mean(0),
        "focused": (entropy < 0.5).double().mean(0),
    }
    assert 0 < expected["focused"].mean() < 1
    assert len(found) == 5 * 7
    for name, heads in expected.items():
        assert found[f"attention/x/{name}_mean"] == pytest.approx(heads.mean().item(), abs=1e-5), name
        for head, value in enumerate(heads):
            assert found[f"attention/x/{name}/head_{head}"] == pytest.approx(value.item(), abs=1e-5), name
    assert all(type(value) is float for value in found.values())


def test_uniform_and_collapsed_heads() -> None:
    q = torch.zeros(2, 2, 8, 4)
    k = torch.randn(2, 2, 8, 4)
    k[:, 1, 2] = 100.0  # from the third on, every query of the second head looks there alone
    q[:, 1] = 1.0
    found = attention_health({"a.b": AttentionMap(q, k, mask=Causal())}, prefix="p")
    assert found["p/a.b/relative_entropy/head_0"] == pytest.approx(1, abs=1e-6)
    assert found["p/a.b/entropy/head_0"] == pytest.approx(sum(math.log(n) for n in range(1, 9)) / 8, abs=1e-6)
    assert found["p/a.b/focused/head_0"] == 0 and found["p/a.b/focused/head_1"] >= 6 / 7 - 1e-6
    assert found["p/a.b/sink_mean"] == 0


def test_the_first_key_of_each_batch_element() -> None:
    from regard.attention import Interval

    start = torch.tensor([[[0] * 6], [[2] * 6]])  # left padding: the second text begins later
    q, k = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    table = AttentionMap(q, k, mask=Interval(start, torch.full((2, 1, 6), 6)))
    found = attention_health({"x": table}, heads=False)
    expected = (table.dense()[0, ..., 0].mean() + table.dense()[1, ..., 2].mean()) / 2
    assert found["attention/x/first_key_mean"] == pytest.approx(expected.item(), abs=1e-6)
    assert len(found) == 5


@pytest.mark.parametrize("shape", [(7, 4), (2, 7, 4), (2, 3, 2, 7, 4)])
def test_layouts_and_half_precision(shape: tuple[int, ...]) -> None:
    table = AttentionMap(torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16())
    found = attention_health({"x": table})
    assert found["attention/x/entropy_mean"] == pytest.approx(table.entropy().mean().item(), abs=1e-5)
    assert found["attention/x/first_key_mean"] == pytest.approx(table.dense()[..., 0].mean().item(), abs=1e-5)


def test_maps_of_which_no_query_counts_have_no_numbers() -> None:
    table = AttentionMap(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4))
    assert attention_health({"x": table}, real={"x": torch.zeros(1, 3, dtype=torch.bool)}) == {}
    with pytest.raises(ArgumentError, match=r"real\['x'\] is \(3,\) torch.bool, expected \(1, 3\) bool"):
        attention_health({"x": table}, real={"x": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(ArgumentError, match="real has 'y', which is no map; there are: x"):
        attention_health({"x": table}, real={"y": torch.ones(1, 3, dtype=torch.bool)})


def test_what_is_not_finite_is_left_out() -> None:
    q = torch.randn(1, 2, 3, 4)
    q[0, 1] = math.nan
    found = attention_health({"x": AttentionMap(q, torch.randn(1, 2, 3, 4))})
    assert "attention/x/entropy/head_0" in found and "attention/x/entropy/head_1" not in found
    assert "attention/x/entropy_mean" not in found and all(map(math.isfinite, found.values()))


def test_training_is_not_disturbed() -> None:
    q = torch.randn(1, 2, 3, 4, requires_grad=True)
    found = attention_health({"x": AttentionMap(q, torch.randn(1, 2, 3, 4))})
    assert found and q.grad is None
