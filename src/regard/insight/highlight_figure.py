"""Pictures of highlighted texts; of long ones, their profile along the text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regard.errors import ArgumentError
from regard.insight.canvas import LARGEST_INCHES, SOFT, checked_path, colour_map, save
from regard.insight.fonts import lettering
from regard.insight.highlight import Highlight, Piece, rolled_out
from regard.insight.palette import DARK_FROM, GRID, INK, SCALE
from regard.insight.rollout import RollOut
from regard.insight.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.2 * 72  # of the text, in points
_SIZE = 11.0  # of its letters
_LINE = 21.0  # from one line to the next
_HEAD = 26.0  # above a text, for its headline
_FOOT = 34.0  # below a text, for its caption
_PROFILE = 110.0  # height of a profile
_PIECES = 800  # more are drawn as a profile
_BINS = 480  # of a profile

Line = list[tuple[float, float, Piece]]
"""Pieces with where they begin and how wide they are, in points."""


def draw_highlight(
    highlights: Highlight | Sequence[Highlight], path: Path, title: str | None = None, special: bool = True
) -> None:
    """Draw highlighted texts below each other: the darker a word, the larger its share of the largest that is shown.

    A text of more than 800 pieces is drawn as a profile: its shares along the text, the largest named.

    Args:
        highlights: one or several.
        path: the file, ending in .png, .svg or .pdf; written whole or not at all.
        title: a line above the picture.
        special: whether special tokens are shown.

    Raises:
        ArgumentError: an unknown ending, no highlight, or a text without anything to show.
        MissingExtraError, UnsupportedError: no font has a character (see `regard.insight.fonts.lettering`).
        OSError: the file cannot be written.
    """
    path = checked_path(path)
    several = [highlights] if isinstance(highlights, Highlight) else list(highlights)
    texts = [one.pieces(special) for one in several]
    if not several or not all(texts):
        raise ArgumentError("highlights has nothing to show, expected one text at least, of one word or more")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    words = [visible(piece.text) for pieces in texts for piece in _written(pieces)]
    headlines = [visible(one.headline) for one in several]
    letters: dict[str, Any] = lettering([*words, *headlines, *([visible(title)] if title else [])]).properties()
    measuring = FigureCanvasAgg(Figure(dpi=72))  # where a pixel is a point
    laid = [None if len(pieces) > _PIECES else _lines(pieces, measuring, letters) for pieces in texts]
    heads = [_broken(text, measuring, letters) for text in headlines]
    heights = [
        _HEAD + _LINE * 0.8 * (len(head) - 1) + _FOOT + (_PROFILE if lines is None else len(lines) * _LINE)
        for lines, head in zip(laid, heads, strict=True)
    ]
    height = sum(heights)
    if height > LARGEST_INCHES * 72:
        raise ArgumentError(f"{len(several)} highlighted texts are too many for one picture: choose fewer positions")
    figure = Figure(figsize=(_WIDTH / 72, height / 72), facecolor="white")
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(0, height))  # in points
    page.set_axis_off()
    top = height
    for pieces, lines, head, tall in zip(texts, laid, heads, heights, strict=True):
        for line in head:
            top -= _LINE * 0.8
            page.text(0, top, line, fontsize=9.5, color=SOFT, va="baseline", **letters)
        most = max(piece.share for piece in pieces)
        body = tall - _HEAD - _FOOT - _LINE * 0.8 * (len(head) - 1)
        top -= _HEAD - _LINE * 0.8
        if lines is None:
            _draw_profile(figure, pieces, top - body, body, height, letters)
        else:
            _draw_lines(page, lines, most, top, letters)
        top -= body + _FOOT
        _draw_caption(page, pieces, top + _FOOT - 14, letters)
    if title:
        page.text(0, height + 6, visible(title), fontsize=12, color=INK, va="bottom", **letters)
    save(figure, path)


def draw_roll_out(result: RollOut, path: Path, title: str | None = None, special: bool = True) -> None:
    """Draw a roll-out: a highlighted text for each position and each sequence that it reads; see `draw_highlight`."""
    draw_highlight(rolled_out(result), path, title, special)


def _written(pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Those whose text is drawn."""
    return pieces if len(pieces) <= _PIECES else _largest(pieces, 6)


def _largest(pieces: Sequence[Piece], most: int) -> list[Piece]:
    return sorted(pieces, key=lambda piece: -piece.share)[:most]


def _wide(text: str, canvas: Any, letters: dict[str, Any], size: float = _SIZE) -> float:
    """In points."""
    artist = canvas.figure.text(0, 0, text, fontsize=size, **letters)
    wide = float(artist.get_window_extent(canvas.get_renderer()).width)
    artist.remove()
    return wide


def _broken(text: str, canvas: Any, letters: dict[str, Any]) -> list[str]:
    """A headline in lines that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _wide(longer, canvas, letters, 9.5) > _WIDTH:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _lines(pieces: Sequence[Piece], canvas: Any, letters: dict[str, Any]) -> list[Line]:
    """The text in lines of the picture's width."""
    lines: list[Line] = [[]]
    at, known = 0.0, dict[str, float]()
    for piece in pieces:
        text = visible(piece.text)
        if text not in known:
            known[text] = _wide(text, canvas, letters) + 6
        if lines[-1] and at + known[text] > _WIDTH:
            lines.append([])
            at = 0.0
        lines[-1].append((at, known[text], piece))
        at += known[text] + 2
    return lines


def _draw_lines(page: "Axes", lines: list[Line], most: float, top: float, letters: dict[str, Any]) -> None:
    from matplotlib.patches import FancyBboxPatch

    colours = colour_map()
    for number, line in enumerate(lines):
        bottom = top - (number + 1) * _LINE + 3
        for left, wide, piece in line:
            depth = piece.share / most if most > 0 else 0.0
            page.add_artist(
                FancyBboxPatch(
                    (left, bottom),
                    wide,
                    _LINE - 4,
                    boxstyle="round,pad=0,rounding_size=3",
                    facecolor=colours(depth),
                    edgecolor=GRID if depth < 0.1 else colours(depth),
                    linewidth=0.5,
                    clip_on=False,
                )
            )
            colour = "white" if depth >= DARK_FROM else SOFT if piece.special and depth < 0.2 else INK
            style = {"fontsize": _SIZE, "color": colour, "va": "baseline", **letters}
            page.text(left + 3, bottom + 5, visible(piece.text), **style)


def _draw_profile(
    figure: "Figure", pieces: Sequence[Piece], bottom: float, tall: float, height: float, letters: dict[str, Any]
) -> None:
    """Shares along a long text, added up in bins, with the largest pieces named."""
    axes = figure.add_axes((0.06, (bottom + 20) / height, 0.94, (tall - 30) / height))
    shares = np.array([piece.share for piece in pieces])
    edges = np.arange(_BINS + 1) * len(pieces) // _BINS
    bins = np.add.reduceat(shares, edges[:-1])
    axes.bar(edges[:-1], bins, width=np.diff(edges), align="edge", color=SCALE[6], linewidth=0)
    axes.set_xlim(0, len(pieces))
    axes.set_ylim(0, max(float(bins.max()), 1e-9) * 1.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5, color=GRID, labelcolor=SOFT, length=3)
    for spine in axes.spines.values():
        spine.set(edgecolor=GRID)
    axes.set_ylabel(f"share, in {_BINS} parts", fontsize=7.5, color=SOFT, **letters)
    axes.set_xlabel("place in the text", fontsize=7.5, color=SOFT, labelpad=2, **letters)


def _draw_caption(page: "Axes", pieces: Sequence[Piece], at: float, letters: dict[str, Any]) -> None:
    """The largest shares in per cent."""
    largest = [piece for piece in _largest(pieces, 6) if piece.share >= 0.0005]
    long = len(pieces) > _PIECES
    named = [
        f"{visible(piece.text)}{f' ({piece.positions[0]})' if long else ''} {100 * piece.share:.1f} %"
        for piece in largest
    ]
    text = " · ".join(named) or "nothing of 0.05 % or more"
    page.text(0, at, text, fontsize=8, color=SOFT, va="baseline", **letters)
