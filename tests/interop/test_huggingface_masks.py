"""Dense masks and biases of transformers, written short."""

import pytest
import torch
from torch import Tensor

from regard.attention import Causal, Dense
from regard.attention.biases import Diagonals
from regard.attention.extent import Extent
from regard.attention.masks import Interval
from regard.interop.huggingface.masks import Masks, Seen, short_bias

LEAST = torch.finfo(torch.float32).min


def _shown(seen: Seen, table: Tensor) -> Tensor:
    """The table that a short mask stands for."""
    batch, heads, queries, keys = table.shape
    extent = Extent.of(torch.zeros(batch, heads, queries, 1), torch.zeros(batch, heads, keys, 1))
    if seen.mask is None:
        return torch.ones_like(table, dtype=torch.bool)
    return seen.mask.block(slice(0, queries), slice(0, keys), extent).expand(table.shape)


def _numbers(table: Tensor) -> Tensor:
    return torch.zeros(table.shape).masked_fill(~table, LEAST)


CAUSAL = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
LEFT = torch.arange(6) >= torch.tensor([0, 2])[:, None]
PATTERNS = {
    "everything": (torch.ones(2, 1, 6, 6, dtype=torch.bool), type(None)),
    "causal": (CAUSAL, Causal),
    "causal, cached": (torch.ones(1, 1, 3, 8, dtype=torch.bool).tril(5), Causal),
    "window": (CAUSAL.triu(-2), Interval),
    "padding on the right": ((torch.arange(6) < torch.tensor([6, 4])[:, None])[:, None, None], Interval),
    "padding on the left": (CAUSAL & LEFT[:, None, None], Interval),
    "two documents": (CAUSAL & (torch.arange(6)[:, None] // 3 == torch.arange(6) // 3), Interval),
    "prefix": (CAUSAL | (torch.arange(6) < 3), Interval),
    "gaps": (CAUSAL & (torch.arange(6) != 1), Dense),
    "by head": (torch.arange(6) < torch.tensor([2, 5]).view(1, 2, 1, 1), Interval),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("numbers", [False, True], ids=["booleans", "numbers"])
def test_a_mask_becomes_the_simplest_that_says_the_same(name: str, numbers: bool) -> None:
    table, kind = PATTERNS[name]
    mask = _numbers(table) if numbers else table
    seen = Masks().seen(mask, sees_all=False)
    assert type(seen.mask) is kind
    assert torch.equal(_shown(seen, table), table)
    assert seen.level is None and seen.bias is None
    assert seen.end == int(table.any(0).any(0).any(0).nonzero()[-1]) + 1


def test_an_expanded_mask_is_read_once_a_row() -> None:
    table = (torch.arange(6) < torch.tensor([6, 4])[:, None])[:, None, None].expand(2, 3, 6, 6)
    mask = Masks().seen(table, sees_all=False).mask
    assert isinstance(mask, Interval) and mask.start.shape == (2, 1, 1)


def test_rows_that_are_barred_by_the_least_number_are_level() -> None:
    table = CAUSAL & LEFT[:, None, None]
    for mask in (_numbers(table), table):
        seen = Masks().seen(mask, sees_all=True)
        empty = ~table.any(-1, keepdim=True)
        assert seen.level is not None and torch.equal(seen.level, empty)
        assert torch.equal(_shown(seen, table), table | empty)


def test_rows_that_are_barred_by_infinity_see_nothing() -> None:
    table = CAUSAL & LEFT[:, None, None]
    mask = torch.zeros(table.shape).masked_fill(~table, -torch.inf)
    masks = Masks()
    seen = masks.seen(mask, sees_all=True)
    assert seen.level is None and torch.equal(_shown(seen, table), table)
    assert seen.empty and not masks.seen(torch.zeros(1, 1, 2, 2), sees_all=True).empty


def test_other_numbers_are_a_bias() -> None:
    mask = _numbers(CAUSAL.clone())
    mask[..., 3, 1] = -2.5
    seen = Masks().seen(mask, sees_all=True)
    assert isinstance(seen.mask, Causal) and seen.bias is not None
    assert seen.bias[0, 0, 3, 1] == -2.5 and seen.bias.count_nonzero() == 1


def test_a_mask_is_read_once_while_it_lives_and_again_when_it_changed() -> None:
    masks, table = Masks(), CAUSAL.clone()
    first = masks.seen(table, sees_all=False)
    assert masks.seen(table, sees_all=False) is first
    assert masks.seen(table[:, :, :, :], sees_all=False) is first
    table[..., 0] = False
    assert isinstance(masks.seen(table, sees_all=False).mask, Interval)
    masks.forget()
    assert masks.seen(table, sees_all=False) is not first


def test_a_bias_of_distances_becomes_its_diagonals() -> None:
    values = torch.randn(3, 4 + 6 - 1)
    table = values[:, torch.arange(6) - torch.arange(4)[:, None] + 3][None]  # (1, 3, 4, 6)
    found = short_bias(table, heads=3)
    assert isinstance(found, Diagonals) and torch.equal(found.values, values)
    assert short_bias(torch.zeros(1, 3, 4, 6), heads=3) is None
    changed = table.clone()
    changed[0, 2, 3, 5] += 1e-6
    assert short_bias(changed, heads=3) is changed
    both = torch.cat([table, changed])
    assert short_bias(both, heads=3) is both
    shared = short_bias(table[:, :1], heads=3)
    assert isinstance(shared, Diagonals) and torch.equal(shared.values, values[:1].expand(3, -1))
    barred = table.masked_fill(torch.arange(6) - torch.arange(4)[:, None] == 2, -torch.inf)
    assert short_bias(barred, heads=3) is barred


def test_reading_takes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.interop.huggingface.masks.BLOCK", 7)
    table = PATTERNS["padding on the left"][0]
    assert torch.equal(_shown(Masks().seen(table, sees_all=False), table), table)
    gaps = PATTERNS["gaps"][0]
    assert torch.equal(_shown(Masks().seen(gaps, sees_all=False), gaps), gaps)
    values = torch.randn(3, 9)
    toeplitz = values[:, torch.arange(6) - torch.arange(4)[:, None] + 3][None]
    toeplitz[0, 0, 2, 1] += 1.0
    assert short_bias(toeplitz, heads=3) is toeplitz
