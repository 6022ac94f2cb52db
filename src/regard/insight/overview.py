"""Overviews of whole maps: a grid of at most 256 × 256 cells, however long the texts are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regard.errors import ArgumentError
from regard.insight.canvas import checked_path, colour_map, save
from regard.insight.fonts import lettering
from regard.insight.palette import GRID, INK
from regard.insight.pooled import counted_in, pooled
from regard.insight.reading import Numbers, Reading, check_alike, check_head, frozen, mean_name, plain
from regard.insight.text import visible

MOST_CELLS = 256
"""Cells along the longer side of a picture."""

_SIDE = 5.2  # inches
_MOST_TEXTS = 40  # along a side, where they can still be read
_SHADES = " ·░▒▓█"


@dataclass(frozen=True, eq=False)
class Overview:
    """Where the attention of a whole sequence goes, cell by cell.

    Attributes:
        view: whose attention, for people: "decoder.layers.0.cross · head 3".
        queries, keys: the names of the two sequences.
        rows, columns: where cells begin, and the length at the end: (h + 1,) and (w + 1,) positions.
        shares: (h, w) float32, read-only: of the attention of a row's queries, the mean share that falls on the keys
            of a column. A row sums to at most 1. Queries that don't count, such as padding, have no part in it;
            a row of them alone is 0.
        row_texts, column_texts: what stands at the rows and columns, where each is one position and that is known.
        counted: (h,), how many queries of each row count; empty: all.
    """

    view: str
    queries: str
    keys: str
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    shares: Numbers
    row_texts: tuple[str, ...] = ()
    column_texts: tuple[str, ...] = ()
    counted: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain lists and strings for `json.dump`."""
        return {
            "view": self.view,
            "queries": self.queries,
            "keys": self.keys,
            "rows": list(self.rows),
            "columns": list(self.columns),
            "row_texts": list(self.row_texts),
            "column_texts": list(self.column_texts),
            "shares": plain(self.shares),
        }

    def coarser(self, high: int, wide: int) -> "Overview":
        """The same in at most `high` × `wide` cells, each made of whole ones."""
        down, across = (_edges(len(edges) - 1, most) for edges, most in ((self.rows, high), (self.columns, wide)))
        heights = np.array(self.counted or np.diff(self.rows), dtype=np.float64)
        wider = np.add.reduceat(self.shares.astype(np.float64), across[:-1], axis=1)  # (h, wide)
        summed = np.add.reduceat(wider * heights[:, None], down[:-1], axis=0)  # (high, wide)
        counted = np.add.reduceat(heights, down[:-1])
        shares = summed / np.maximum(counted, 1)[:, None]
        rows, columns = tuple(self.rows[i] for i in down), tuple(self.columns[i] for i in across)
        numbers = tuple(map(int, counted))
        return Overview(self.view, self.queries, self.keys, rows, columns, frozen(shares), counted=numbers)


def overview(
    readings: Sequence[Reading], *, head: int | None = None, view: str | None = None, cells: int = MOST_CELLS
) -> Overview:
    """The overview of an attention, or the mean of several between the same two sequences.

    Args:
        readings: one or more.
        head: one of the `head_numbers` of each; None is the mean of all heads.
        view: what it is called; made of the readings' names if not given.
        cells: most cells along a side.

    Raises:
        ArgumentError: no readings, readings of other lengths, or there is no such head.
    """
    first = check_alike(readings)
    queries, keys = first.table.shape[-2:]
    rows, columns = _edges(queries, cells), _edges(keys, cells)
    parts = [pooled(one, (len(rows) - 1, len(columns) - 1))[check_head(one, head)].mean(0) for one in readings]
    # the mean over the places of a cell times its width is the share of a query that falls into it
    shares = torch.stack(parts).mean(0).cpu().numpy() * np.diff(columns)
    name = first.name if len(readings) == 1 else f"mean of {len(readings)} layers"
    known = view or f"{name} · {mean_name(first) if head is None else f'head {head}'}"
    texts = [
        tokens.texts if tokens is not None and length <= cells else ()
        for tokens, length in ((first.queries, queries), (first.keys, keys))
    ]
    counted = tuple(counted_in(first, len(rows) - 1)[0].tolist())
    return Overview(
        known,
        first.role.queries,
        first.role.keys,
        tuple(rows),
        tuple(columns),
        frozen(shares),
        texts[0],
        texts[1],
        counted,
    )


def render_overview(found: Overview, width: int, color: bool) -> str:
    """The overview as text: a line for some queries, a character for some keys; heavier is darker.

    Args:
        found: what to show.
        width: of the terminal in cells, 20 or more.
        color: whether colours may be used (ANSI, 256 colours); then a line of text holds two rows.
    """
    if width < 20:
        raise ArgumentError(f"width is {width}, expected at least 20 terminal cells")
    side = len(str(found.rows[-1])) + 1
    room = min(width - side, 96)
    shape = (len(found.rows) - 1, len(found.columns) - 1)
    if 2 * shape[1] <= room and shape[0] <= room:  # two characters and a line for each cell
        shown, step, line = found, 1, _squares if color else _doubled
    else:  # a character is about twice as high as it is wide
        wide = min(room, shape[1])
        tall = max(1, min(round(wide * shape[0] / shape[1]), 96))
        shown = found.coarser(tall if color else (tall + 1) // 2, wide)
        step, line = (2, _halves) if color else (1, _shades)
    levels = _levels(shown.shares)
    down, across = f"{found.queries} 0–{found.rows[-1] - 1} down", f"{found.keys} 0–{found.columns[-1] - 1} across"
    lines = [found.view, f"{down}, {across}; on a logarithmic scale"]
    for top in range(0, len(levels), step):
        label = str(shown.rows[top]) if (top // step) % 4 == 0 else ""
        lines.append(f"{label.rjust(side - 1)} {line(levels[top : top + step])}".rstrip())
    return "\n".join(lines)


def draw_overview(found: Overview, path: Path, title: str | None = None) -> None:
    """Draw the overview as a picture; the colours are on a logarithmic scale. Short texts stand at the sides.

    Args:
        found: what to draw.
        path: the file, ending in .png, .svg or .pdf; written whole or not at all.
        title: a line above the picture; what is shown if not given.

    Raises:
        ArgumentError: an unknown ending.
        MissingExtraError, UnsupportedError: no font has a character of the title.
        OSError: the file cannot be written.
    """
    path = checked_path(path)
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    text = visible(title or found.view)
    beside, above = (
        [visible(one) for one in texts] if len(texts) <= _MOST_TEXTS else []
        for texts in (found.row_texts, found.column_texts)
    )
    letters = lettering([text, found.queries, found.keys, *beside, *above]).properties()
    queries, keys = found.rows[-1], found.columns[-1]
    longer = max(queries, keys)
    width, height = max(0.8, _SIDE * keys / longer), max(0.8, _SIDE * queries / longer)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    scale = LogNorm(*_scale(found.shares))
    colours = colour_map().with_extremes(bad="white")  # nothing at all
    shown = np.ma.masked_less_equal(found.shares, 0.0)
    mesh = axes.pcolormesh(found.columns, found.rows, shown, cmap=colours, norm=scale, rasterized=True)
    axes.set_xlim(0, keys)
    axes.set_ylim(queries, 0)
    axes.tick_params(length=3, color=GRID, labelsize=8, labelcolor=INK, top=True, labeltop=True)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    axes.xaxis.set_label_position("top")
    if above:
        ends: dict[str, Any] = {"rotation": 45, "ha": "left", "rotation_mode": "anchor"}
        axes.set_xticks([n + 0.5 for n in range(keys)], labels=above, **ends, **letters)
    if beside:
        axes.set_yticks([n + 0.5 for n in range(queries)], labels=beside, **letters)
    axes.set_xlabel(f"{visible(found.keys)} (looked at)", fontsize=9, color=INK, labelpad=6, **letters)
    axes.set_ylabel(f"{visible(found.queries)} (looks)", fontsize=9, color=INK, labelpad=6, **letters)
    axes.set_title(text, loc="left", pad=12, fontsize=10, color=INK, **letters)
    for spine in axes.spines.values():
        spine.set(edgecolor=GRID, linewidth=0.8)
    tall = min(height, 2.4)
    place = figure.add_axes((1 + 0.22 / width, 1 - tall / height, 0.11 / width, tall / height))
    bar = figure.colorbar(mesh, cax=place, format=lambda share, _: f"{100 * share:.3g} %")
    bar.set_label("share of a query's attention", fontsize=8, color=INK, labelpad=6, **letters)
    least, most = _scale(found.shares)
    bar.locator = LogLocator(subs=(1.0, 2.0, 5.0) if most / least < 100 else (1.0,))
    bar.minorformatter = NullFormatter()  # or it would name some in powers of ten
    bar.update_ticks()
    bar.outline.set(edgecolor=GRID, linewidth=0.8)
    place.tick_params(which="both", length=0, labelsize=8, labelcolor=INK)
    save(figure, path)


def _edges(length: int, most: int) -> list[int]:
    """Where at most `most` like cells of positions begin, and the length."""
    count = min(length, most)
    return [cell * length // count for cell in range(count + 1)]


def _scale(shares: Numbers) -> tuple[float, float]:
    """The shares that are shown faintest and darkest: from a fraction of what is equal shares to the heaviest."""
    heaviest = max(float(shares.max()), 1e-12)
    return min(0.25 / shares.shape[1], heaviest / 10), heaviest


def _levels(shares: Numbers) -> npt.NDArray[np.float64]:
    """How dark cells are, from 0 (nothing to be seen) to 1, on the scale of the pictures."""
    least, most = _scale(shares)
    with np.errstate(divide="ignore"):
        level = np.log(shares.astype(np.float64) / least) / np.log(most / least)
    clipped: npt.NDArray[np.float64] = np.clip(level, 0, 1)
    return clipped


def _shades(rows: npt.NDArray[np.float64], times: int = 1) -> str:
    """One row, a character for each cell."""
    steps = np.ceil(rows[0] * (len(_SHADES) - 1)).astype(int)
    return "".join(_SHADES[step] * times for step in steps)


def _doubled(rows: npt.NDArray[np.float64]) -> str:
    """One row, two characters for each cell."""
    return _shades(rows, 2)


def _squares(rows: npt.NDArray[np.float64]) -> str:
    """One row, two coloured blanks for each cell."""
    return "".join(f"\x1b[48;5;{_code(level)}m  " for level in rows[0]) + "\x1b[0m"


def _halves(rows: npt.NDArray[np.float64]) -> str:
    """Two rows as coloured half blocks, the second of which may be missing."""
    lower = rows[1] if len(rows) > 1 else np.zeros_like(rows[0])
    pieces = [f"\x1b[38;5;{_code(a)};48;5;{_code(b)}m▀" for a, b in zip(rows[0], lower, strict=True)]
    return "".join(pieces) + "\x1b[0m"


def _code(level: float) -> int:
    """The grey, of 24 from white to near black, of a level."""
    return 255 - round(level * 22)
