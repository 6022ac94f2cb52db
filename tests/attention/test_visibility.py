"""The normal form of masks: blocks, ranges, keys and queries seen, each against the table that the mask stands for."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.attention_cases import Case, sizes_strategy
from oracles.attention_options import MASKS, Sizes
from regard.attention import (
    ALiBi,
    Causal,
    Dense,
    Document,
    GaussianFactor,
    General,
    Mask,
    Near,
    Padding,
    Prefix,
    Window,
)
from regard.attention.extent import Extent
from regard.attention.visibility import Visibility

NAMES = sorted(name for name, make in MASKS.items() if make is not None)


def _resolved(case: Case) -> tuple[Mask, Visibility, Tensor, Extent]:
    problem = case.make(torch.float32)
    assert problem.mask is not None
    extent = Extent.of(problem.q, problem.k)
    return problem.mask, problem.mask.resolve(extent), problem.visible, extent


def _table(seen: Visibility, extent: Extent, rows: slice, columns: slice) -> Tensor:
    block = seen.block(rows, columns, extent.device)
    shape = (extent.batch, extent.heads, rows.stop - rows.start, columns.stop - columns.start)
    return torch.ones(shape, dtype=torch.bool) if block is None else block.expand(shape)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), sizes=sizes_strategy(), name=st.sampled_from(NAMES), seed=st.integers(0, 999))
def test_any_block_is_that_part_of_the_table(data: st.DataObject, sizes: Sizes, name: str, seed: int) -> None:
    mask, seen, table, extent = _resolved(Case(sizes, mask=name, seed=seed))
    rows, columns = (
        slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in (sizes.queries, sizes.keys)
    )
    assert torch.equal(_table(seen, extent, rows, columns), table[:, :, rows, columns])
    assert torch.equal(
        mask.block(rows, columns, extent).expand(table[:, :, rows, columns].shape), table[:, :, rows, columns]
    )
    b, h = data.draw(st.integers(0, sizes.batch - 1)), data.draw(st.integers(0, sizes.heads - 1))
    part = seen.crop(slice(b, b + 1), slice(h, h + 1))
    one = replace(extent, batch=1, heads=1)
    assert torch.equal(_table(part, one, rows, columns)[0, 0], table[b, h, rows, columns])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), sizes=sizes_strategy(), name=st.sampled_from(NAMES), seed=st.integers(0, 999))
def test_what_is_seen(data: st.DataObject, sizes: Sizes, name: str, seed: int) -> None:
    _, seen, table, extent = _resolved(Case(sizes, mask=name, seed=seed))
    arguments = (sizes.queries, sizes.keys, extent.device)
    assert torch.equal(seen.seen_keys(*arguments).expand(sizes.batch, sizes.heads, -1), table.any(2))
    alive = seen.seen_any(*arguments)
    assert alive is not None or table.any(-1).all()
    if alive is not None:
        assert torch.equal(alive.expand(sizes.table[:3]), table.any(-1))
    first, last = seen.interval(*arguments)
    j = torch.arange(sizes.keys)
    assert not (table & ~((j >= first) & (j < last))).any()
    rows = slice(*sorted(data.draw(st.tuples(st.integers(0, sizes.queries), st.integers(0, sizes.queries)))))
    columns = seen.columns(rows, sizes.keys)
    outside = torch.ones(sizes.keys, dtype=torch.bool)
    outside[columns] = False
    assert 0 <= columns.start <= columns.stop <= sizes.keys
    assert not (table[:, :, rows] & outside).any()
    alike = seen.start is None and seen.stop is None and seen.keys is None  # one offset for all queries
    if seen.limits_only and alike and rows.stop > rows.start and table[:, :, rows].any():
        wanted = table[:, :, rows].flatten(0, 2).any(0).nonzero()
        assert (columns.start, columns.stop) == (int(wanted[0]), int(wanted[-1]) + 1), "keys that no row sees"


LAWS: list[tuple[Mask, Mask]] = [
    (Window(None, 0), Causal()),
    (Window(None, None), Dense(torch.ones(1, 1, dtype=torch.bool))),
    (Window(2, 0), Window(2, 5) & Causal()),
    (Causal(torch.tensor([1, 2])) & Causal(torch.tensor([2, 1])), Causal(1)),
    (Prefix(3) | Causal(), Causal() | Prefix(torch.tensor([3, 3]))),
    (Prefix(100), Window(None, None)),
    (Prefix(2), Padding(torch.tensor([2, 2]))),
    (Document(torch.zeros(5).long(), torch.zeros(7).long()), Window(None, None)),
    (Near(torch.arange(5), 1), Window(1, 1, 0)),
    (Near(torch.arange(5) + 0.5, 0.5), Window(0, 1, 0)),
    (Causal(-1) | Padding(torch.tensor([7, 7])), Window(None, None)),
    (
        Document(torch.tensor([0, 0, 1, 1, -1]), torch.tensor([0, 0, 0, 1, 1, -1, -1])),
        Document(torch.tensor([5, 5, 7, 7, -3]), torch.tensor([5, 5, 5, 7, 7, -1, -2])),
    ),
]


@pytest.mark.parametrize(("left", "right"), LAWS, ids=str)
def test_masks_that_are_the_same(left: Mask, right: Mask) -> None:
    extent = Extent.of(torch.zeros(2, 3, 5, 2), torch.zeros(2, 3, 7, 2))
    whole = slice(0, 5), slice(0, 7)
    a, b = (mask.block(*whole, extent).expand(2, 1, 5, 7) for mask in (left, right))
    assert torch.equal(a, b)


def test_packed_documents_are_intervals_and_mixed_ones_are_not() -> None:
    extent = Extent.of(torch.zeros(7, 2), torch.zeros(7, 2))
    packed = Document(torch.tensor([3, 3, 3, 4, 9, 9, -1])).resolve(extent)
    assert packed.limits_only
    assert packed.columns(slice(3, 4), 7) == slice(3, 4)
    assert packed.columns(slice(3, 6), 7) == slice(3, 6)
    assert not Document(torch.tensor([3, 4, 3, 4, 9, 9, -1])).resolve(extent).limits_only


def test_prefix_or_causal_stays_one_limit() -> None:
    extent = Extent.of(torch.zeros(2, 1, 7, 2), torch.zeros(2, 1, 7, 2))
    seen = (Prefix(torch.tensor([2, 4])) | Causal()).resolve(extent)
    assert seen.limits_only
    assert seen.stop is not None
    assert seen.stop[:, 0, :, 0].tolist() == [[2, 2, 3, 4, 5, 6, 7], [4, 4, 4, 4, 5, 6, 7]]


def test_a_mask_keeps_its_numbers() -> None:
    """The caller may go on counting in its own tensors."""
    lengths, offset, ids = torch.tensor([2, 3]), torch.tensor([0, 1]), torch.tensor([0, 0, 1, 1, 1])
    masks = (Padding(lengths), Prefix(lengths), Causal(offset), Window(1, 1, offset), Document(ids, ids))
    extent = Extent.of(torch.zeros(2, 1, 5, 2), torch.zeros(2, 1, 5, 2))
    before = [mask.block(slice(0, 5), slice(0, 5), extent) for mask in masks]
    for x in (lengths, offset, ids):
        x += 1
    fresh = Extent.of(torch.zeros(2, 1, 5, 2), torch.zeros(2, 1, 5, 2))
    assert all(
        torch.equal(mask.block(slice(0, 5), slice(0, 5), fresh), x) for mask, x in zip(masks, before, strict=True)
    )


def test_scores_and_biases_are_printed_with_shapes_not_numbers() -> None:
    assert str(General(torch.zeros(64, 32))) == "General(weight=(64, 32))"
    assert str(ALiBi(offset=3)) == "ALiBi(slopes=None, offset=3)"
    assert str(GaussianFactor(torch.zeros(2, 7), 1.5)) == "GaussianFactor(centre=(2, 7), sigma=1.5)"


def test_masks_say_what_they_are() -> None:
    shown = str(Prefix(3) | Causal(torch.tensor([1, 2])) & Window(4, None))
    assert shown == "Or(left=Prefix(3), right=And(left=Causal([1, 2]), right=Window(4, None, None)))"
