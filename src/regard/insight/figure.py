"""Alignment pictures as PNG, SVG or PDF.

Only matplotlib's object interface is used (no pyplot, no backend, no global setting), so drawing works in servers and
threads and leaves the caller's own figures alone.
"""

import math
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from regard.errors import ArgumentError
from regard.insight.alignment import Alignment, Link
from regard.insight.canvas import LARGEST_INCHES, checked_path, colour_map, save, scale_end
from regard.insight.fonts import lettering
from regard.insight.palette import DARK_FROM, GOLD, GRID, INK
from regard.insight.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERS_UP_TO = 12  # words on the longer side: beyond it the numbers no longer fit their cells


def draw_alignment(
    alignment: Alignment, path: Path, title: str | None = None, gold: Collection[Link] | None = None
) -> None:
    """Draw one alignment as a heat map: source words along the top, target words down the left side.

    Darker is heavier; the scale ends at 1, or lower when no weight comes near it. Up to twelve words the weights stand
    in the cells. The picture grows with the sentence.

    Args:
        alignment: at least one word on each side.
        path: the file, ending in .png, .svg or .pdf; written whole or not at all.
        title: a line above the picture.
        gold: links `(source, target)` to outline.

    Raises:
        ArgumentError: an unknown ending, a side without words, a gold link outside the sentence.
        MissingExtraError, UnsupportedError: no font has a character (see `regard.insight.fonts.lettering`).
        OSError: the file cannot be written.
    """
    path = checked_path(path)
    _check_words(alignment)
    _check_gold(alignment, gold)
    from matplotlib.figure import Figure

    source = [visible(word) for word in alignment.source_words]
    target = [visible(word) for word in alignment.target_words]
    letters = lettering([*source, *target, *([visible(title)] if title else [])]).properties()
    longer = max(len(source), len(target))
    cell = min(max(8.0 / longer, 0.23), 0.5, LARGEST_INCHES / longer)  # inches
    size = min(max(cell * 26, 7.5), 12.0, cell * 60)  # points
    width, height = cell * len(source), cell * len(target)
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    top = scale_end(float(alignment.weights.max()))
    mesh = _draw_cells(axes, alignment, top)
    _label(axes, source, target, letters, size, cell)
    if longer <= _NUMBERS_UP_TO:
        _write_numbers(axes, alignment, top, letters, size * 0.72)
    if gold:
        _outline(axes, gold, 1.2 + cell * 1.6)
    if title:
        fits = max(24, int((width + 1.5) * 72 / (size * 0.62)))
        text = "\n".join(textwrap.wrap(visible(title), fits))
        axes.set_title(text, loc="left", pad=12, fontsize=size + 2, color=INK, **letters)
    _draw_bar(figure, mesh, (width, height), letters, has_gold=bool(gold))
    save(figure, path)


def draw_heads(
    alignments: Mapping[str, Alignment],
    path: Path,
    title: str | None = None,
    columns: int | None = None,
    gold: Collection[Link] | None = None,
) -> None:
    """Draw many alignments of one sentence pair as a grid of small panels, to compare layers and heads.

    Args:
        alignments: panel name (for example "layer 2 · head 3") → alignment, in reading order; all of the same words.
        path: as for `draw_alignment`.
        title: a line above all panels.
        columns: panels a row, for example the number of heads; by default as square as possible.
        gold: links `(source, target)` to outline in every panel.

    Raises:
        ArgumentError: no panels, panels of different words, fewer than one column, or as for `draw_alignment`.
        MissingExtraError, UnsupportedError, OSError: as for `draw_alignment`.
    """
    path = checked_path(path)
    first = _same_words(alignments)
    _check_gold(first, gold)
    if columns is not None and columns < 1:
        raise ArgumentError(f"columns is {columns}, expected at least 1")
    from matplotlib.figure import Figure

    source = [visible(word) for word in first.source_words]
    target = [visible(word) for word in first.target_words]
    names = [visible(name) for name in alignments]
    letters = lettering([*source, *target, *names, *([visible(title)] if title else [])]).properties()
    across = min(columns or math.ceil(math.sqrt(len(names))), len(names))
    down = math.ceil(len(names) / across)
    longer = max(len(source), len(target))
    cell = min(max(1.9 / longer, 0.06), 0.24, LARGEST_INCHES / (longer * max(across, down)))  # inches
    size = min(max(cell * 46, 4.5), 8.5)
    panel_w, panel_h = cell * len(source), cell * len(target)
    gap_w, gap_h = 0.16, 0.3
    width = across * panel_w + (across - 1) * gap_w
    height = down * panel_h + (down - 1) * gap_h
    figure = Figure(figsize=(width, height), facecolor="white")
    top = scale_end(max(float(alignment.weights.max()) for alignment in alignments.values()))
    mesh = None
    for number, (name, alignment) in enumerate(zip(names, alignments.values(), strict=True)):
        row, column = divmod(number, across)
        left, bottom = column * (panel_w + gap_w), height - row * (panel_h + gap_h) - panel_h
        axes = figure.add_axes((left / width, bottom / height, panel_w / width, panel_h / height))
        mesh = _draw_cells(axes, alignment, top)
        # words only along the outer edge: every panel has the same ones
        words_above, words_beside = source if row == 0 else [], target if column == 0 else []
        _label(axes, words_above, words_beside, letters, size, cell)
        axes.set_xlabel(name, fontsize=7.5, labelpad=3, color=INK, **letters)
        axes.xaxis.set_label_position("bottom")
        if gold:
            _outline(axes, gold, 0.5 + cell * 2)
    if title:
        text = visible(title)
        rise = 0.25 + (0 if _is_flat(source, cell, size) else size / 72 * 0.45 * max(map(cell_len, source)))
        figure.text(0, 1 + rise / height, text, fontsize=11, color=INK, va="bottom", **letters)
    _draw_bar(figure, mesh, (width, height), letters, has_gold=bool(gold))
    save(figure, path)


def _draw_cells(axes: "Axes", alignment: Alignment, top: float) -> Any:
    mesh = axes.pcolormesh(
        alignment.weights, cmap=colour_map(), vmin=0.0, vmax=top, edgecolors=GRID, linewidth=0.5, antialiased=True
    )
    rows, columns = alignment.weights.shape
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.tick_params(which="both", length=0, bottom=False, top=False, left=False, right=False)
    for spine in axes.spines.values():
        spine.set(edgecolor=GRID, linewidth=0.8, visible=True)
    return mesh


def _label(
    axes: "Axes", source: list[str], target: list[str], letters: dict[str, Any], size: float, cell: float
) -> None:
    flat = _is_flat(source, cell, size)
    turned: dict[str, Any] = {"ha": "center"} if flat else {"rotation": 45, "ha": "left", "rotation_mode": "anchor"}
    style = {"fontsize": size, "color": INK, **letters}
    axes.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False, pad=4)
    axes.tick_params(axis="y", left=False, right=False, labelleft=True, labelright=False, pad=5)
    axes.set_xticks([i + 0.5 for i in range(len(source))], labels=source, va="bottom", **turned, **style)
    axes.set_yticks([j + 0.5 for j in range(len(target))], labels=target, **style)


def _is_flat(words: list[str], cell: float, size: float) -> bool:
    """Say whether every word is narrow enough to stand upright over a cell."""
    return max(map(cell_len, words), default=0) * size * 0.56 <= cell * 72 * 0.95


def _write_numbers(axes: "Axes", alignment: Alignment, top: float, letters: dict[str, Any], size: float) -> None:
    where: dict[str, Any] = {"ha": "center", "va": "center_baseline", **letters}
    for j, row in enumerate(alignment.weights):
        for i, weight in enumerate(row):
            text = f"{weight:.2f}".removeprefix("0")
            if weight < 0.02:
                continue
            colour = "white" if weight / top >= DARK_FROM else INK
            axes.text(i + 0.5, j + 0.5, text, fontsize=size, color=colour, **where)


def _outline(axes: "Axes", gold: Collection[Link], width: float) -> None:
    from matplotlib.patches import Rectangle

    for i, j in sorted(gold):
        axes.add_patch(
            Rectangle(
                (i, j), 1, 1, fill=False, edgecolor=GOLD, linewidth=width, joinstyle="miter", clip_on=False, zorder=3
            )
        )


def _draw_bar(
    figure: "Figure", mesh: Any, inches: tuple[float, float], letters: dict[str, Any], has_gold: bool
) -> None:
    """Draw the colour bar to the right of everything, 1.2 to 2.4 inches high, and below it what the outlines mean."""
    from matplotlib.patches import Rectangle

    width, height = inches
    tall = min(max(height, 1.2), 2.4)
    bar_axes = figure.add_axes((1 + 0.22 / width, 1 - tall / height, 0.11 / width, tall / height))
    bar = figure.colorbar(mesh, cax=bar_axes)
    bar.set_label("attention weight", fontsize=8, color=INK, labelpad=6, **letters)
    end = float(mesh.get_clim()[1])
    ticks = [0.0, end] if tall < 0.8 else [0.0, end / 2, end]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks], fontsize=8, color=INK, **letters)
    bar_axes.tick_params(length=0, pad=4)
    bar.outline.set(edgecolor=GRID, linewidth=0.8)
    if has_gold:
        left, bottom = 1 + 0.22 / width, 1 - (tall + 0.36) / height
        box = Rectangle(
            (left, bottom),
            0.13 / width,
            0.13 / height,
            transform=figure.transFigure,
            fill=False,
            edgecolor=GOLD,
            linewidth=1.6,
        )
        figure.add_artist(box)
        middle = bottom + 0.065 / height
        figure.text(left + 0.22 / width, middle, "gold link", fontsize=8, color=INK, va="center", **letters)


def _check_words(alignment: Alignment) -> None:
    if not alignment.source_words or not alignment.target_words:
        raise ArgumentError(
            f"alignment has {len(alignment.source_words)} source and {len(alignment.target_words)} target words, "
            "expected at least one each"
        )


def _check_gold(alignment: Alignment, gold: Collection[Link] | None) -> None:
    sizes = len(alignment.source_words), len(alignment.target_words)
    for i, j in gold or ():
        if not (0 <= i < sizes[0] and 0 <= j < sizes[1]):
            raise ArgumentError(
                f"gold has link {i}-{j}, expected source 0 to {sizes[0] - 1}, target 0 to {sizes[1] - 1}"
            )


def _same_words(alignments: Mapping[str, Alignment]) -> Alignment:
    if not alignments:
        raise ArgumentError("alignments is empty, expected at least one panel")
    first_name, first = next(iter(alignments.items()))
    _check_words(first)
    for name, alignment in alignments.items():
        if (alignment.source_words, alignment.target_words) != (first.source_words, first.target_words):
            raise ArgumentError(f"alignments[{name!r}] has other words than alignments[{first_name!r}]")
    return first
