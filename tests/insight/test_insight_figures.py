"""Pictures of heads and highlighted texts: whole files whose darkest cells are where the weight is."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from regard.attention import AttentionMap, Causal
from regard.errors import ArgumentError
from regard.insight import (
    HeadSummary,
    Highlight,
    draw_distances,
    draw_head_grids,
    draw_head_ranking,
    draw_highlight,
    draw_roll_out,
    rank_heads,
    readings_of,
    roll_out,
    summarise_heads,
)
from regard.insight.tokens import Role, Tokens, Word

TEXT = Tokens(
    ("<s>", "三月", "lamp", "$x^"), (True, False, False, False), words=(Word("三月", (1,)), Word("lamp", (2,)))
)


def summary(heads: int = 3, kind: str = "causal") -> HeadSummary:
    torch.manual_seed(0)
    maps = {f"layers.{n}": AttentionMap(torch.randn(1, heads, 4, 3), torch.randn(1, heads, 4, 3)) for n in range(2)}
    role = Role("cross", "target", "source") if kind == "cross" else Role("causal", "text", "text")
    return summarise_heads(readings_of(maps, dict.fromkeys(maps, role), lambda name: ([TEXT], [TEXT])))


def highlight(shares: list[float], tokens: Tokens | None = None) -> Highlight:
    return Highlight("looked at", "三月", (0,), "text", "text", "head 0", np.float32(shares), tokens)


def pixels(path: Path) -> npt.NDArray[np.int64]:
    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("RGB")).astype(np.int64)


def near(image: npt.NDArray[np.int64], colour: str) -> npt.NDArray[np.bool_]:
    wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return np.asarray(np.abs(image - wanted).sum(-1) < 12)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_every_format_is_written_whole(ending: str, tmp_path: Path) -> None:
    one = rank_heads([readings_of(*cross())], [{(0, 0)}])
    readings = readings_of({"a": AttentionMap(torch.randn(4, 3), torch.randn(4, 3), mask=Causal())}, CAUSAL)
    for name, draw in {
        "grids": lambda path: draw_head_grids(summary(), path, "五个 heads"),
        "distances": lambda path: draw_distances(summary(), path),
        "ranking": lambda path: draw_head_ranking(one, path, "ranking"),
        "text": lambda path: draw_highlight(highlight([0.1, 0.4, 0.2, 0.3], TEXT), path, "title $"),
        "roll-out": lambda path: draw_roll_out(roll_out(readings, [1, 3]), path),
    }.items():
        path = tmp_path / f"{name}.{ending}"
        draw(path)
        if ending == "png":
            assert pixels(path).shape[1] > 250, name
        elif ending == "svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            assert "<dc:date>" not in path.read_text("utf-8")
        else:
            assert path.read_bytes()[:5] == b"%PDF-"
    assert len(list(tmp_path.iterdir())) == 5


CAUSAL = {"a": Role("causal", "text", "text")}


def cross() -> tuple[dict[str, AttentionMap], dict[str, Role], object]:
    maps = {"a": AttentionMap(torch.randn(1, 2, 4, 3), torch.randn(1, 2, 4, 3))}
    return maps, {"a": Role("cross", "target", "source")}, lambda name: ([TEXT], [TEXT])


def test_the_darkest_word_has_the_largest_share(tmp_path: Path) -> None:
    tokens = Tokens(("one", "two", "three"), (False,) * 3)
    places = []
    for heaviest in range(3):
        shares = [0.0] * 3
        shares[heaviest] = 0.2  # relative to the largest: 0.2 alone is darkest
        draw_highlight(highlight(shares, tokens), tmp_path / "a.png")
        dark = near(pixels(tmp_path / "a.png"), "#2b2945")
        assert dark.sum() > 500
        places.append(np.argwhere(dark)[:, 1].mean())
    assert places[0] < places[1] < places[2]


def test_special_tokens_can_be_left_out(tmp_path: Path) -> None:
    half = []
    for special in (True, False):  # "lamp" has half of the largest share of a word, and little beside the special one
        draw_highlight(highlight([0.9, 0.1, 0.05, 0], TEXT), tmp_path / "a.png", special=special)
        half.append(near(pixels(tmp_path / "a.png"), "#2c95d7").sum())
    assert half[0] < 100 < 500 < half[1]


def test_a_long_text_wraps_and_a_very_long_one_becomes_a_profile(tmp_path: Path) -> None:
    heights = []
    for count in (10, 160, 2000):
        shares = np.random.default_rng(0).random(count)
        draw_highlight(highlight(list(shares / shares.sum())), tmp_path / "a.png")
        heights.append(pixels(tmp_path / "a.png").shape[0])
    assert heights[0] < heights[2] < heights[1]


def test_grids_grow_with_layers_and_leave_out_what_means_nothing(tmp_path: Path) -> None:
    draw_head_grids(summary(), tmp_path / "a.png", measures=["entropy"])
    draw_head_grids(summary(), tmp_path / "b.png")
    one, all_of_them = (pixels(tmp_path / f"{x}.png").shape for x in "ab")
    assert all_of_them[0] * all_of_them[1] > 3 * one[0] * one[1]
    draw_head_grids(summary(40), tmp_path / "c.png", measures=["entropy"])
    assert pixels(tmp_path / "c.png").shape[1] > 2 * one[1]
    with pytest.raises(ArgumentError, match=r"measures has \['next'\]"):
        draw_head_grids(summary(), tmp_path / "x.png", measures=["next"])
    with pytest.raises(ArgumentError, match="cross-attention only"):
        draw_distances(summary(kind="cross"), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_errors(tmp_path: Path) -> None:
    for draw in (
        lambda path: draw_head_grids(summary(), path),
        lambda path: draw_distances(summary(), path),
        lambda path: draw_highlight(highlight([1.0]), path),
    ):
        with pytest.raises(ArgumentError, match=r"expected a name ending in \.png, \.svg, \.pdf"):
            draw(tmp_path / "a.gif")
    with pytest.raises(ArgumentError, match="nothing to show"):
        draw_highlight([], tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="nothing to show"):
        draw_highlight(highlight([1.0], Tokens(("<s>",), (True,))), tmp_path / "a.png", special=False)
    with pytest.raises(ArgumentError, match="too many for one picture"):
        draw_highlight([highlight([1.0])] * 80, tmp_path / "a.png")
