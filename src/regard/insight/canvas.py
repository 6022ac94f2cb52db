"""What every picture shares: the file it goes to, the colour scale, small heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from regard.errors import ArgumentError
from regard.files import write_whole
from regard.insight.palette import DARK_FROM, GRID, INK, SCALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
SOFT = "#5d6675"
"""Captions on a light ground."""
EMPTY = "#f1f3f6"
"""Where a heat map has nothing to say."""
DPI = 180
LARGEST_INCHES = 60.0  # 10,800 pixels; matplotlib's renderer stops at 65,536


def checked_path(path: Path) -> Path:
    """The path of a picture.

    Raises:
        ArgumentError: its ending is of no known format.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ArgumentError(f"path is {str(path)!r}, expected a name ending in {', '.join(FORMATS)}")
    return path


def save(figure: "Figure", path: Path, dpi: float = DPI) -> None:
    """Write a picture, whole or not at all, and without a date in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    metadata = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[path.suffix.lower()]
    style: dict[str, Any] = {"dpi": dpi, "facecolor": "white", "bbox_inches": "tight", "pad_inches": 0.2}
    kind = path.suffix.lower()[1:]
    write_whole(path, lambda whole: figure.savefig(whole, format=kind, metadata=metadata, **style))


def colour_map() -> "Colormap":
    """The scale of all pictures."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("regard", SCALE).with_extremes(bad=EMPTY)


def scale_end(heaviest: float) -> float:
    """Where the colour scale ends: 1, or the next tenth above the largest weight when that is below a half."""
    return 1.0 if heaviest > 0.5 else max(0.1, math.ceil(heaviest * 10 - 1e-6) / 10)


def draw_grid(
    axes: "Axes",
    values: npt.NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    top: float,
    texts: Sequence[Sequence[str]] | None,
    size: float,
    letters: dict[str, Any],
) -> None:
    """A heat map of square cells, its rows from the top down; cells that are not a number stay grey.

    Args:
        axes: to draw in.
        values: (rows, columns).
        rows, columns: labels; none for no labels.
        top: the value that is darkest.
        texts: written in the cells.
        size: of letters, in points.
        letters: how they are written.
    """
    masked = np.ma.masked_invalid(values)
    axes.pcolormesh(masked, cmap=colour_map(), vmin=0.0, vmax=top, edgecolors=GRID, linewidth=0.5, antialiased=True)
    down, across = values.shape
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    axes.tick_params(which="both", length=0, pad=4, left=False, right=False, top=False, bottom=False)
    for spine in axes.spines.values():
        spine.set(edgecolor=GRID, linewidth=0.8)
    style = {"fontsize": size, "color": INK, **letters}
    axes.set_xticks([n + 0.5 for n in range(len(columns))], labels=list(columns), **style)
    axes.set_yticks([n + 0.5 for n in range(len(rows))], labels=list(rows), **style)
    for row in range(down if texts is not None else 0):
        for column in range(across):
            text = texts[row][column] if texts is not None else ""
            if text:
                dark = values[row, column] / top >= DARK_FROM
                colour = "white" if dark else INK
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    text,
                    fontsize=size * 0.9,
                    color=colour,
                    ha="center",
                    va="center_baseline",
                    **letters,
                )
