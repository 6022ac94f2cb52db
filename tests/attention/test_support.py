"""The support table: every combination of it runs and is right, or is refused by name; its page is up to date."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from regard.attention import AttentionMap, attend
from regard.attention.backends.reference import REFERENCE
from regard.attention.operator import build_call
from regard.attention.scores import EXAMPLES
from regard.attention.support import MASKS, OPTIONS, REFUSED
from regard.attention.support_docs import page
from regard.errors import UnsupportedError

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 6, 5, 11, 3
PAGE = Path(__file__).parents[2] / "docs" / "attention-support.md"


def _draw(heads: int, length: int, width: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, heads, length, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("groups", "dtype"), [(6, torch.float32), (2, torch.float64), (2, torch.float16), (6, torch.bfloat16)], ids=str
)
@pytest.mark.parametrize("score", EXAMPLES)
def test_every_cell_runs_and_is_right(score: str, groups: int, dtype: torch.dtype) -> None:
    """All pairs of a mask and two options beside it, against the plain computation in float64 of the same numbers."""
    q, k, v = (_draw(h, n, w, i, dtype) for i, (h, n, w) in enumerate([(6, 5, 3), (groups, 11, 3), (groups, 11, 2)]))
    made_score = EXAMPLES[score](HEADS, WIDTH, torch.Generator().manual_seed(0))
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    for mask, (one, other) in itertools.product(MASKS, itertools.combinations(OPTIONS, 2)):
        options = OPTIONS[one](BATCH, HEADS, QUERIES, KEYS) | OPTIONS[other](BATCH, HEADS, QUERIES, KEYS)
        options |= {"score": made_score, "mask": MASKS[mask](BATCH, QUERIES, KEYS)}
        dropped = options.pop("dropout", 0.0)
        need_lse = options.pop("return_lse", False)
        with torch.no_grad():
            if ("factorised", "softcap") in REFUSED and made_score.form == "factorised" and "softcap" in options:
                with pytest.raises(UnsupportedError, match="nearest"):
                    attend(q, k, v, **options)
                with pytest.raises(UnsupportedError, match="nearest"):
                    AttentionMap(q, k, **options)
                continue
            call = build_call(q.double(), k.double(), v.double(), **(NOTHING | options), dropout=0.0, need_lse=need_lse)
            exact, exact_lse = REFERENCE.run(call)
            context = attend(q, k, v, **options, return_lse=need_lse)
            lse = None
            if need_lse:
                context, lse = context
            cell = f"{score}, {mask}, {one}, {other}"
            assert context.dtype == dtype, cell
            torch.testing.assert_close(context.double(), exact, atol=tolerance, rtol=tolerance, msg=cell)
            if lse is not None:
                assert exact_lse is not None
                torch.testing.assert_close(lse.double(), exact_lse, atol=10 * tolerance, rtol=tolerance, msg=cell)
            if dropped:
                assert attend(q, k, v, **options, dropout=dropped).isfinite().all(), cell


NOTHING = {"mask": None, "bias": None, "factor": None, "softcap": None, "sink": None}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m regard.attention.support_docs > docs/attention-support.md"


def test_the_page_calls_quadratic_what_is() -> None:
    """At these lengths nothing but the reference, or a backend that says so, may write out the table."""
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(MASKS) + len(OPTIONS)
    for row in rows:
        for cell in row.replace("\\|", "or").split("|")[2:-1]:
            assert cell.strip() == "refused" or ("reference" in cell) <= ("Q × K" in cell), row
