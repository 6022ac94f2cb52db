"""Families of Hugging Face models: outputs unchanged in every bit, maps those of the eager implementation."""

from pathlib import Path

import pytest
import transformers

from regard.errors import UnsupportedError
from regard.interop.huggingface.coverage import BOUND, examine, page
from regard.interop.huggingface.families import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "huggingface-models.md"
VERSION = int(transformers.__version__.split(".")[0])
RECORDED = [family for family in FAMILIES if family.since and (VERSION >= 5 or family.since != "5")]
REFUSED = [family for family in FAMILIES if family not in RECORDED]


@pytest.mark.parametrize("family", RECORDED, ids=lambda family: family.name)
def test_outputs_are_the_same_and_maps_are_those_of_the_eager_implementation(family: Family) -> None:
    found = examine(family)
    assert found.same
    assert found.error <= BOUND
    assert found.sharpest > 0.2  # uniform attention would prove little


@pytest.mark.parametrize("family", REFUSED, ids=lambda family: family.name)
def test_what_cannot_be_heard_is_refused_by_name(family: Family) -> None:
    with pytest.raises(UnsupportedError, match=f"{family.model} can't be recorded: .* code of its own|ignores softcap"):
        examine(family)


@pytest.mark.skipif(VERSION < 5, reason="the page is of transformers 5")
def test_the_page_is_up_to_date() -> None:
    made = page()
    assert PAGE.read_text("utf-8") == made, (
        "run: python -m regard.interop.huggingface.coverage > docs/huggingface-models.md"
    )
