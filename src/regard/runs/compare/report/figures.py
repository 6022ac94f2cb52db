"""The pictures of a comparison: which there are, and their files."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard.files import write_whole
from regard.runs.compare.report.formats import duration, short, significant, size
from regard.runs.compare.report.log_panels import gradient_panel, reach_panel, time_panel
from regard.runs.compare.report.measures import Over, largest, summarise
from regard.runs.compare.report.panels import bar_panel, curve_panel, length_panel, probe_panel, quality_panel
from regard.runs.compare.report.style import INK, SIZE, Look, Panel, Pen, Picture, drawable, letters, looks_of
from regard.runs.compare.results import Comparison, CurvePoint, Judged, SeedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("quality", "quality-by-length", "curves", "speed", "time-per-token", "reach", "gradients", "probes")
"""All pictures that there can be, in reading order; each is a PNG and an SVG."""

_DPI = 160


def pictures(comparison: Comparison) -> dict[str, Picture]:
    """Return the pictures that the comparison has data for, by name, in the order of `NAMES`."""
    looks = looks_of(comparison)
    panels = {
        "quality": ("Quality", _quality(comparison, looks), 2),
        "quality-by-length": ("Quality by length of the source", _by_length(comparison, looks), 2),
        "curves": ("Training", _curves(comparison, looks), 2),
        "speed": ("Speed and size", _speed(comparison, looks), 2),
        "time-per-token": ("Time per token as sentences grow", _times(comparison, looks), 2),
        "reach": ("How far the past reaches", _reach(comparison, looks), 2),
        "gradients": ("Gradients in training", _gradients(comparison, looks), 1),
        "probes": ("Probes", tuple(probe_panel(p, looks) for p in comparison.probes if p.runs), 2),
    }
    trained = tuple(looks[model.label] for model in comparison.models)
    probed = tuple(looks[label] for label in dict.fromkeys(r.label for p in comparison.probes for r in p.runs))
    legends = {"quality": (), "speed": (), "gradients": (), "probes": probed}  # the first three name their rows
    return {
        name: Picture(name, title, drawn, columns, legends.get(name, trained))
        for name, (title, drawn, columns) in panels.items()
        if drawn
    }


def write_picture(picture: Picture, *paths: Path) -> None:
    """Draw all panels of a picture and its legend to PNG and SVG files, each whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _draw(picture)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # everything has its place now: to find it again for each file would take longer
    for path in paths:
        # no date inside, so that a picture made again does not differ by it
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        write_whole(path, partial(figure.savefig, dpi=_DPI, metadata=metadata))


def draw_panel(panel: Panel, figure: "Figure", place: Any = None, titled: bool = False) -> Pen:
    """Draw a panel into a figure; return the pen, which knows what the drawn things say.

    Args:
        panel: what to draw.
        figure: takes the axes.
        place: of its grid; None is the whole figure.
        titled: for files: the title is drawn too, and nothing is to be pointed at.
    """
    axes = figure.add_subplot(place) if place is not None else figure.add_subplot()
    pen = Pen(axes, tips=not titled)
    panel.draw(pen)
    if titled:
        axes.set_title(panel.title, loc="left", fontsize=SIZE + 1, color=INK, pad=24, **letters([panel.title]))
    return pen


def _draw(picture: Picture) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(picture.columns, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    width = columns * max(panel.width for panel in picture.panels) * 1.05
    heights = [max(p.height for p in picture.panels[row * columns : (row + 1) * columns]) for row in range(rows)]
    has_legend = len(picture.looks) > 1
    legend_rows = -(-len(picture.looks) // max(1, int(width // 220))) if has_legend else 0
    above = 44 + 22 * legend_rows
    height = sum(heights) + 44 * rows + above
    below = (0.01, 0.01, 0.98, 1 - above / height - 0.01)
    layout = ConstrainedLayoutEngine(rect=below, hspace=0.06, wspace=0.05)
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white", layout=layout)
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    for number, panel in enumerate(picture.panels):
        draw_panel(panel, figure, grid[divmod(number, columns)], titled=True)
    left, top = 12 / width, 1 - 10 / height
    figure.text(left, top, picture.title, fontsize=SIZE + 4, color=INK, ha="left", va="top", **letters([picture.title]))
    if has_legend:
        _legend(figure, picture.looks, (left, 1 - 36 / height), max(1, int(width // 220)))
    return figure


def _legend(figure: "Figure", looks: Sequence[Look], corner: tuple[float, float], columns: int) -> None:
    from matplotlib.lines import Line2D

    labels = [drawable(look.label) for look in looks]
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=6, linewidth=2, markeredgewidth=0)
        for look in looks
    ]
    for handle, look in zip(handles, looks, strict=True):
        handle.set_linestyle((0, look.dash) if look.dash else "-")
    legend = figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=corner, ncols=columns, frameon=False, borderpad=0,
        borderaxespad=0, handlelength=2.6, fontsize=SIZE - 1, labelcolor=INK,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(**letters([label]), fontsize=SIZE - 1)


def _quality(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    if not any(model.runs for model in comparison.models):
        return ()
    return tuple(quality_panel(comparison, looks, f"BLEU {when}", at) for when, at in points(comparison))


def _by_length(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    return tuple(
        length_panel(comparison, looks, when[0].upper() + when[1:], at)
        for when, at in points(comparison)
        if any(q.sentences for model in comparison.models for run in model.runs for q in at(run).by_length)
    )


def points(comparison: Comparison) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Return the two points at which models are judged: in words, and how to read it from a run."""

    def at_tokens(run: SeedRun) -> Judged:
        return run.at_tokens

    def at_seconds(run: SeedRun) -> Judged:
        return run.at_seconds

    return (
        (f"after {short(comparison.common_tokens)} target tokens", at_tokens),
        (f"after {duration(comparison.common_seconds)}", at_seconds),
    )


def _curves(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    curves = [run.curve for model in comparison.models for run in model.runs]
    panels = []
    ways: tuple[tuple[str, Callable[[CurvePoint], float | None]], ...]
    ways = ("loss", lambda p: p.loss), ("BLEU", lambda p: p.bleu)
    for up, y in ways:
        if any(y(point) is not None for curve in curves for point in curve):
            panels += [curve_panel(comparison, looks, up, y, by_time) for by_time in (False, True)]
    return tuple(panels)


def _speed(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    panels = []
    kinds: tuple[tuple[str, str, Callable[[SeedRun], float | None], Callable[[float], str], Over], ...] = (
        ("Training", "target tokens a second", lambda r: r.tokens_per_second, short, summarise),
        ("Translating", "sentences a second", lambda r: r.at_tokens.sentences_per_second, significant, summarise),
        ("Peak memory, training", "", lambda r: r.peak_memory, size, largest),
    )
    for title, across, of, show, over in kinds:
        values = [(m.label, s) for m in comparison.models if (s := over([of(r) for r in m.runs]))]
        if values:
            panels.append(bar_panel(title, looks, values, show, across))
    sizes = [(m.label, s) for m in comparison.models if (s := summarise([float(m.parameters)]))]
    if sizes:
        panels.append(bar_panel("Parameters", looks, sizes, short, ""))
    return tuple(panels)


def _times(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    if not any(model.speed for model in comparison.models):
        return ()
    return (
        time_panel(comparison, looks, "A training step", lambda s: s.training),
        time_panel(comparison, looks, "Greedy decoding", lambda s: s.decoding),
    )


def _reach(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    reaches = [model.reach for model in comparison.models if model.reach]
    panels = []
    if any(reach.encoder for reach in reaches):
        across = "tokens read since"
        panels.append(reach_panel(comparison, looks, "Encoder's last state", across, lambda r: r.encoder))
    if any(reach.output for reach in reaches):
        across = "tokens read in between, of source and target"
        panels.append(reach_panel(comparison, looks, "Each output", across, lambda r: r.output))
    return tuple(panels)


def _gradients(comparison: Comparison, looks: dict[str, Look]) -> tuple[Panel, ...]:
    return (gradient_panel(comparison, looks),) if any(model.runs for model in comparison.models) else ()
