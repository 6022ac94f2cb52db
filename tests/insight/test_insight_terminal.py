import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from regard.errors import ArgumentError
from regard.insight.alignment import Alignment
from regard.insight.terminal import render_alignment

words = st.lists(st.text(alphabet="ab三月é\t\u200b半w", max_size=17), min_size=1, max_size=13)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def example() -> Alignment:
    weights = np.array([[0.02, 0.93], [0.55, 0.3], [0.004, 0.0]], dtype=np.float32)
    return Alignment(("六点", "March"), ("三月", "a", "点半"), weights)


def test_table_by_hand() -> None:
    assert render_alignment(example(), 60, color=False) == (
        "     六点 March\n"  # side 4, then columns of 4 and 5 cells
        "三月    2  █ 93\n"
        "   a ▓ 55  ▒ 30\n"
        "点半    ·     ·"
    )


def test_columns_line_up_in_cells() -> None:
    lines = render_alignment(example(), 60, color=False).splitlines()
    assert {cell_len(line) for line in lines} == {15}


def test_colour_says_the_same() -> None:
    coloured = render_alignment(example(), 60, color=True)
    assert "\x1b[1;97;48;5;25m 93 \x1b[0m" in coloured
    numbers = [re.findall(r"\d+", plain(line)) for line in coloured.splitlines()]
    assert numbers == [[], ["2", "93"], ["55", "30"], []]


def test_too_wide_gives_the_three_heaviest() -> None:
    weights = np.zeros((2, 11), dtype=np.float32)
    weights[0, [3, 7, 1, 9]] = [0.2, 0.5, 0.15, 0.1]
    source = tuple(f"word{i}" for i in range(11))
    text = render_alignment(Alignment(source, ("三月", "x"), weights), 50, color=False)
    assert text == "三月  ▓ word7 50  ░ word3 20  ░ word1 15\n   x"
    assert plain(render_alignment(Alignment(source, ("三月", "x"), weights), 50, color=True)) == text


@given(words, words, st.integers(20, 90), st.booleans(), st.integers(0, 99))
def test_no_line_is_too_wide(source: list[str], target: list[str], width: int, color: bool, seed: int) -> None:
    raw = np.random.default_rng(seed).random((len(target), len(source))) ** 4 + 1e-4
    weights = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    text = render_alignment(Alignment(tuple(source), tuple(target), weights), width, color)
    lines = plain(text).split("\n")
    assert len(lines) in (len(target), len(target) + 1)
    assert max(map(cell_len, lines)) <= width
    assert ("\x1b" in text) <= color


def test_edges() -> None:
    assert render_alignment(Alignment(("a",), (), np.zeros((0, 1))), 40, color=False) == ""
    assert render_alignment(Alignment((), ("a",), np.zeros((1, 0))), 40, color=True) == "a"
    with pytest.raises(ArgumentError, match="width is 19"):
        render_alignment(example(), 19, color=False)
