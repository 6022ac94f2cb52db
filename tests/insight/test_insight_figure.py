import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from regard.errors import ArgumentError, RegardError
from regard.insight.alignment import Alignment
from regard.insight.figure import draw_alignment, draw_heads

SOURCE = ("half", "past", "six", "on", "Tuesday", "the", "fourth", "of", "March")
TARGET = tuple("三月四日星期二六点半")


def alignment(source: tuple[str, ...] = SOURCE, target: tuple[str, ...] = TARGET, seed: int = 0) -> Alignment:
    raw = np.random.default_rng(seed).random((len(target), len(source))) ** 3 + 1e-3
    return Alignment(source, target, (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))


def test_png_is_whole_and_shows_dark_cells_and_gold(tmp_path: Path) -> None:
    weights = np.zeros((2, 3), dtype=np.float32)
    weights[0, 2] = 1
    path = tmp_path / "a.png"
    draw_alignment(Alignment(("x", "y", "z"), ("三", "月"), weights), path, gold={(0, 1)})
    with Image.open(path) as image:
        image.load()
        pixels = np.asarray(image.convert("RGB")).astype(int)
    darkest = np.abs(pixels - [0x2B, 0x29, 0x45]).sum(axis=-1) < 12
    orange = np.abs(pixels - [0xD9, 0x48, 0x0F]).sum(axis=-1) < 12
    assert darkest.sum() > 2000 and orange.sum() > 300
    # source is across, target down: the gold link x-月 lies left of and below the weight z-三
    cell = np.argwhere(orange & (np.arange(pixels.shape[1]) < np.argwhere(darkest)[:, 1].min()))
    assert cell[:, 0].mean() > np.median(np.argwhere(darkest)[:, 0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_svg_is_whole_without_text_that_needs_a_font(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    draw_alignment(alignment(), path, title="$5 → 三月", gold={(8, 0)})
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    assert not [node for node in root.iter() if node.tag.endswith("}text")]
    again = tmp_path / "b.svg"
    draw_alignment(alignment(), again)
    assert "<dc:date>" not in again.read_text(encoding="utf-8")


def test_pdf(tmp_path: Path) -> None:
    draw_alignment(alignment(), tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"


def test_the_picture_grows_with_the_sentence(tmp_path: Path) -> None:
    sizes = []
    for count in (2, 61):
        path = tmp_path / f"{count}.png"
        draw_alignment(alignment(("word",) * count, ("词",) * count), path)
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[0][0] < 700 and sizes[1][0] > 2000 and sizes[1][1] > 2000


def test_dollars_are_not_mathematics(tmp_path: Path) -> None:
    draw_alignment(alignment(("$x^$", "$\\nosuch$"), ("_{", "a")), tmp_path / "a.png", title="$\\frac$")


def test_heads(tmp_path: Path) -> None:
    panels = {f"layer {n // 3} · head {n % 3}": alignment(seed=n) for n in range(5)}
    draw_heads(panels, tmp_path / "h.png", title="五个", columns=3, gold={(8, 0)})
    with Image.open(tmp_path / "h.png") as image:
        image.load()
        assert image.size[0] > 600
    with pytest.raises(ArgumentError, match="other words"):
        draw_heads({"a": alignment(), "b": alignment(target=TARGET[::-1])}, tmp_path / "x.png")
    with pytest.raises(ArgumentError, match="empty"):
        draw_heads({}, tmp_path / "x.png")
    with pytest.raises(ArgumentError, match="columns"):
        draw_heads(panels, tmp_path / "x.png", columns=0)


def test_wrong_arguments_are_named_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.png, \.svg, \.pdf"):
        draw_alignment(alignment(), tmp_path / "a.gif")
    with pytest.raises(ArgumentError, match="9-0"):
        draw_alignment(alignment(), tmp_path / "a.png", gold={(9, 0)})
    with pytest.raises(ArgumentError, match="0 source and 1 target"):
        draw_alignment(Alignment((), ("a",), np.zeros((1, 0))), tmp_path / "a.png")
    with pytest.raises(RegardError, match=r"U\+10FF0D"):
        draw_alignment(alignment(("a", "\U0010ff0d")), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    draw_alignment(alignment(), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
