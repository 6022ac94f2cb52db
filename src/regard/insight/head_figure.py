"""Pictures of heads: grids of layers × heads for each measure, distance profiles, alignment error rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.errors import ArgumentError
from regard.insight.best_head import HeadRanking
from regard.insight.canvas import LARGEST_INCHES, SOFT, checked_path, draw_grid, save, scale_end
from regard.insight.fonts import lettering
from regard.insight.head_summary import MEASURES, HeadSummary, LayerSummary, distance_label
from regard.insight.palette import INK
from regard.insight.text import visible

_CELL = 0.34  # inches, where there is room
_LETTER = 0.078  # inches a letter of a label takes
_TITLE_LETTER = 0.064
_NUMBERS_UP_TO = 400  # cells in a panel: beyond it numbers are too small to read


@dataclass(frozen=True)
class _Panel:
    """A heat map: values (rows, columns), NaN where there is none; the darkest value; numbers in the cells."""

    title: str
    values: npt.NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    top: float
    texts: list[list[str]]


def draw_head_grids(
    summary: HeadSummary, path: Path, title: str | None = None, measures: Sequence[str] | None = None
) -> None:
    """Draw a grid of layers × heads for each measure; grey where it means nothing.

    Args:
        summary: what to draw.
        path: the file, ending in .png, .svg or .pdf; written whole or not at all.
        title: a line above the picture.
        measures: some of `MEASURES`; None: all that some layer has.

    Raises:
        ArgumentError: an unknown ending or measure, or one that no layer has.
        MissingExtraError, UnsupportedError: no font has a character (see `regard.insight.fonts.lettering`).
        OSError: the file cannot be written.
    """
    known = [name for name in MEASURES if any(layer.measures[name] is not None for layer in summary.layers)]
    chosen = known if measures is None else list(measures)
    wrong = [name for name in chosen if name not in known]
    if wrong or not chosen:
        raise ArgumentError(f"measures has {wrong[:1] or 'nothing'}, expected some of {', '.join(known)}")
    heads = sorted({number for layer in summary.layers for number in layer.head_numbers})
    rows = [visible(layer.name) for layer in summary.layers]
    panels = []
    for name in chosen:
        values = np.full((len(rows), len(heads)), np.nan)
        for number, layer in enumerate(summary.layers):
            of_heads = layer.measures[name]
            if of_heads is not None:
                values[number, [heads.index(head) for head in layer.head_numbers]] = of_heads
        most = float(np.nanmax(values))
        digits = 1 if name == "entropy" else 2
        top = max(most, 1e-6) if name == "entropy" else scale_end(most)
        texts = [["" if np.isnan(x) else _number(x, digits) for x in row] for row in values]
        label = f"{MEASURES[name]}\nscale to {_end(top)}"
        panels.append(_Panel(label, values, rows, [str(head) for head in heads], top, texts))
    _draw(panels, path, title, "head")


def draw_distances(summary: HeadSummary, path: Path, title: str | None = None) -> None:
    """Draw for each self-attention how the mass of each head is spread over distances, in ranges that double.

    Distance 0 is the query's own place, positive ones lie before it, negative ones after it.

    Args:
        summary, path, title: as for `draw_head_grids`.

    Raises:
        ArgumentError: an unknown ending, or no self-attention.
        MissingExtraError, UnsupportedError, OSError: as for `draw_head_grids`.
    """
    panels = [_distances(layer) for layer in summary.layers if layer.distances is not None]
    if not panels:
        raise ArgumentError("summary has cross-attention only, where there are no distances")
    _draw(panels, path, title, "distance: how many places before the query", turned=True)


def draw_head_ranking(ranking: HeadRanking, path: Path, title: str | None = None) -> None:
    """Draw the alignment error rate of every layer and head, darker where it is lower; the best is told in words.

    Args:
        ranking: what to draw.
        path, title: as for `draw_head_grids`.

    Raises:
        ArgumentError: an unknown ending.
        MissingExtraError, UnsupportedError, OSError: as for `draw_head_grids`.
    """
    in_order: dict[str, dict[int | None, float]] = {layer: {} for layer in ranking.layers}
    for one in ranking.heads:
        in_order[one.layer][one.head] = one.score.error_rate
    heads = sorted({head for row in in_order.values() for head in row if head is not None})
    places: list[int | None] = [*heads, None]
    rates = np.array([[row.get(head, np.nan) for head in places] for row in in_order.values()])
    texts = [["" if np.isnan(x) else f"{100 * x:.0f}" for x in row] for row in rates]
    best = ranking.best
    head_name = "mean of heads" if best.head is None else f"head {best.head}"
    label = f"alignment error rate in %, {ranking.pairs} pairs; best: {best.layer} · {head_name}"
    columns = ["mean" if head is None else str(head) for head in places]
    _draw([_Panel(label, 1 - rates, [visible(name) for name in in_order], columns, 1.0, texts)], path, title, "head")


def _distances(layer: LayerSummary) -> _Panel:
    assert layer.distances is not None
    values = layer.distances.astype(np.float64)
    columns = [distance_label(layer.edges, n) for n in range(values.shape[1])]
    while values.shape[1] > 1 and not values[:, 0].any():  # nothing lies after the query in causal attention
        values, columns = values[:, 1:], columns[1:]
    top = scale_end(float(values.max(initial=0.0)))
    texts = [[_number(x, 2) if x >= 0.005 else "" for x in row] for row in values]
    heads = [f"head {head}" for head in layer.head_numbers]
    return _Panel(f"{visible(layer.name)}\nscale to {_end(top)}", values, heads, columns, top, texts)


def _end(top: float) -> str:
    """Where a scale ends, rounded up."""
    return f"{math.ceil(100 * top - 1e-4) / 100:g}"


def _number(x: float, digits: int) -> str:
    return f"{x:.{digits}f}".removeprefix("0") if digits == 2 else f"{x:.{digits}f}"


def _draw(panels: Sequence[_Panel], path: Path, title: str | None, below: str, turned: bool = False) -> None:
    """Panels in rows, as wide as a page; row labels beside each row's first panel where all panels have the same."""
    path = checked_path(path)
    from matplotlib.figure import Figure

    names = [text for panel in panels for text in (*panel.title.split("\n"), *panel.rows, *panel.columns)]
    heading = visible(title) if title else ""
    letters: dict[str, Any] = lettering([*names, below, heading]).properties()
    down, across = (max(panel.values.shape[axis] for panel in panels) for axis in (0, 1))
    cell = min(_CELL, 16 / across, 24 / down)
    size = min(8.5, max(4.0, cell * 24))
    numbers = down * across <= _NUMBERS_UP_TO and cell > 0.2
    side = _LETTER * max(len(name) for panel in panels for name in panel.rows) + 0.1
    wide = [
        max(panel.values.shape[1] * cell, max(map(len, panel.title.split("\n"))) * _TITLE_LETTER) for panel in panels
    ]
    # labels stand beside every panel only if they differ
    shared = all(list(panel.rows) == list(panels[0].rows) for panel in panels)
    column_width = max(wide) + 0.3 + (0 if shared else side)
    per_row = max(1, min(len(panels), int(15 / column_width), math.ceil(math.sqrt(2 * len(panels)))))
    per_row = math.ceil(len(panels) / math.ceil(len(panels) / per_row))
    foot = _LETTER * max(len(name) for panel in panels for name in panel.columns) * (0.75 if turned else 0) + 0.45
    head = 0.3 + 0.16 * max(panel.title.count("\n") for panel in panels)
    row_height = down * cell + head + foot
    rows = math.ceil(len(panels) / per_row)
    scale = min(1.0, LARGEST_INCHES / max(per_row * column_width, rows * row_height))
    width, height = (per_row * column_width + side) * scale, rows * row_height * scale
    figure = Figure(figsize=(width, height), facecolor="white")
    for number, panel in enumerate(panels):
        row, column = divmod(number, per_row)
        panel_down, panel_across = (n * cell * scale for n in panel.values.shape)
        left = (column * column_width + side) * scale
        bottom = height - row * row_height * scale - head * scale - panel_down
        axes = figure.add_axes((left / width, bottom / height, panel_across / width, panel_down / height))
        texts = panel.texts if numbers else None
        labels = panel.rows if column == 0 or not shared else []
        draw_grid(axes, panel.values, labels, panel.columns, panel.top, texts, size * scale, letters)
        if turned:
            axes.tick_params(axis="x", rotation=45)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.set_title(panel.title, loc="left", fontsize=size * scale + 0.5, color=INK, pad=5, **letters)
        axes.set_xlabel(below, loc="left", fontsize=size * scale, color=SOFT, labelpad=3, **letters)
    if heading:
        figure.text(0, 1 + 0.12 / height, heading, fontsize=11, color=INK, va="bottom", **letters)
    save(figure, path)
