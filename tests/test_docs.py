"""The documentation says what is so: its code runs, its pages are made from the code, its links exist."""

import re
from pathlib import Path

import pytest

from conftest import TinyModel
from regard.runs.recipe_docs import recipe_page

ROOT = Path(__file__).parents[1]
PAGES = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if path.is_file()]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page: Path, tiny_model: TinyModel, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}  # a page's blocks go on from one another
    for code in BLOCK.findall(page.read_text("utf-8")):
        # the reader's model is not here: a small one stands in for it
        code = code.replace('"runs/en-de"', repr(str(tiny_model.directory))).replace("layers.3", "layers.0")
        code = code.replace("Two dogs play in the snow.", "two dogs play").replace("Two dogs play.", "two dogs play")
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page} links to {target}"


def test_page_about_recipes_is_up_to_date() -> None:
    assert (ROOT / "docs" / "recipes.md").read_text("utf-8") == recipe_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_placeholder_is_left(page: Path) -> None:
    assert not re.search(r"@[A-Z]+@", page.read_text("utf-8"))
