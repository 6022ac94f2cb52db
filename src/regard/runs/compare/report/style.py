"""How a comparison is drawn: one colour, marker and dash a model, and what a panel is.

Every panel is drawn once, by matplotlib, for files and for the page alike. The page replaces the light colours by CSS
variables of the same meaning, so its pictures follow the reader's light or dark setting.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from regard.errors import RegardError
from regard.insight.fonts import lettering
from regard.insight.palette import INK
from regard.insight.text import visible
from regard.runs.compare.results import Comparison

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SOFT = "#5d6675"
"""Numbers and names along the axes."""

LINE = "#d3dae2"
"""Grid lines."""

BAND = "#eef1f5"
"""The ground behind a range that is marked off."""

COLOURS = ("#0072b2", "#d55e00", "#00805a", "#b0468f", "#946c00", "#3b4cc0", "#8a3b12", "#4f5b66")
"""The models' colours on a light ground: after Okabe and Ito (2008), darkened to 4.5 : 1 against white where needed."""

DARK_COLOURS = ("#5ab4f0", "#ff8f4a", "#2fc99b", "#ef9ed3", "#e8bb3f", "#a3b1ff", "#d9a27f", "#b7c1cc")
"""The same on a dark ground."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (3, 1.5), (8, 3), (4, 1, 1, 1), (2, 3))
"""Shapes and dashes, so that models are told apart without colours too."""

SIZE = 12.5
"""Points of the lettering; a panel is 400 points wide, so that it can be read on a phone."""


@dataclass(frozen=True)
class Look:
    """What a model looks like: `number` is its place in the comparison, from 0; later ones begin anew."""

    label: str
    number: int

    @property
    def colour(self) -> str:
        """The colour on a light ground."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def marker(self) -> str:
        """Matplotlib's name of the shape of its points."""
        return MARKERS[self.number % len(MARKERS)]

    @property
    def dash(self) -> tuple[float, ...]:
        """Lengths of strokes and gaps, in line widths; empty for a full line."""
        return DASHES[self.number % len(DASHES)]


def looks_of(comparison: Comparison) -> dict[str, Look]:
    """Return a look for each label, of models first, then of those that appear in probes or sentences only."""
    labels = [model.label for model in comparison.models]
    labels += [run.label for probe in comparison.probes for run in probe.runs]
    labels += [said.label for sentence in comparison.sentences for said in sentence.said]
    return {label: Look(label, number) for number, label in enumerate(dict.fromkeys(labels))}


@dataclass
class Pen:
    """Draws on axes in the house style, and remembers what each drawn thing says when it is pointed at.

    Attributes:
        axes: matplotlib's.
        tips: whether anything can be pointed at.
        says: identity in the picture ("tip3") → number of the model, and the text.
    """

    axes: "Axes"
    tips: bool = True
    says: dict[str, tuple[int, str]] = field(default_factory=dict)

    def line(
        self, look: Look, xs: Sequence[float], ys: Sequence[float], says: str, thin: bool = False, points: bool = False
    ) -> None:
        """Draw a model's line; `thin` for one seed of several, `points` with a marker on each point."""
        (line,) = self.axes.plot(
            xs,
            ys,
            color=look.colour,
            linewidth=0.9 if thin else 2.0,
            alpha=0.45 if thin else 1.0,
            linestyle=(0, look.dash) if look.dash else "-",
            marker=look.marker if points else None,
            markersize=5.0,
            markevery=max(1, math.ceil(len(xs) / 14)),
            markeredgewidth=0,
            solid_capstyle="round",
            zorder=2 if thin else 3,
        )
        self.note(line, look, says)

    def point(
        self, look: Look, x: float, y: float, says: str, bar: tuple[float, float] | None = None, flat: bool = False
    ) -> None:
        """Draw a point and, through it, a bar from `bar[0]` to `bar[1]`; upright, or flat along x."""
        if bar is not None:
            ends = ((bar[0], bar[1]), (y, y)) if flat else ((x, x), (bar[0], bar[1]))
            (line,) = self.axes.plot(*ends, color=look.colour, linewidth=2.0, solid_capstyle="round", zorder=3)
            self.note(line, look, says)
        (dot,) = self.axes.plot([x], [y], look.marker, color=look.colour, markersize=7.0, markeredgewidth=0, zorder=4)
        self.note(dot, look, says)

    def ring(self, look: Look, x: float, y: float, says: str) -> None:
        """Draw a ring around a place on a model's line."""
        (ring,) = self.axes.plot(
            [x], [y], "o", color="none", markeredgecolor=look.colour, markersize=11.0, markeredgewidth=1.6, zorder=5
        )
        self.note(ring, look, says)

    def span(self, look: Look, row: float, low: float, high: float, says: str) -> None:
        """Draw a thin flat line with ends from `low` to `high`, over a bar."""
        (line,) = self.axes.plot([low, high], [row, row], "|-", color=INK, linewidth=1.2, markersize=8.0, zorder=4)
        self.note(line, look, says)

    def band(self, look: Look, xs: Sequence[float], low: Sequence[float], high: Sequence[float], says: str) -> None:
        """Fill the space between two lines in a model's colour, faintly."""
        band = self.axes.fill_between(xs, low, high, color=look.colour, alpha=0.16, linewidth=0, zorder=1)
        self.note(band, look, says)

    def bar(self, look: Look, row: float, value: float, says: str, height: float = 0.42) -> None:
        """Draw a flat bar from 0 to `value`."""
        (bar,) = self.axes.barh([row], [value], height=height, color=look.colour, zorder=2)
        self.note(bar, look, says)

    def write(self, x: float, y: float, text: str, look: Look | None = None, **how: Any) -> None:
        """Write at a place of the axes; what is written of a model (`look`) goes with it when it is hidden."""
        how = {"fontsize": SIZE - 1, "color": SOFT, **letters([text]), **how}
        written = self.axes.text(x, y, text, **how)
        if look is not None:
            self.note(written, look, look.label)

    def frame(self, across: str, up: str, grid: Literal["x", "y", "both"] = "y") -> None:
        """Name the axes and draw the grid."""
        axes = self.axes
        for side, spine in axes.spines.items():
            spine.set(visible=side == "bottom", edgecolor=SOFT, linewidth=0.8)
        axes.set_facecolor("none")
        axes.grid(True, axis=grid, color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0, labelsize=SIZE - 1, labelcolor=SOFT)
        axes.set_xlabel(across, fontsize=SIZE - 1, color=SOFT, labelpad=4)
        # above the axes rather than beside them: read level, and no room is lost at the side
        axes.text(
            0.0, 1.02, up, transform=axes.transAxes, fontsize=SIZE - 1, color=SOFT, ha="left", va="bottom", zorder=5
        )

    def note(self, artist: "Artist", look: Look, says: str) -> None:
        """Remember what `artist` says, and whose it is."""
        if not self.tips:
            return
        name = f"tip{len(self.says)}"
        artist.set_gid(name)
        self.says[name] = (look.number, says)


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows.
        says: the same in a sentence or two with its figures, for those who cannot see it.
        draw: draws it.
        width, height: in points.
    """

    title: str
    says: str
    draw: Callable[[Pen], None]
    width: float = 400.0
    height: float = 285.0


@dataclass(frozen=True)
class Picture:
    """Panels that belong together: one file each of PNG and SVG, one figure of the page.

    Attributes:
        name: of the files, without ending.
        title: its heading in the files.
        panels: in reading order.
        columns: panels beside each other in the files.
        looks: of the models that are in it, for the legend.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    columns: int
    looks: tuple[Look, ...]


def letters(texts: Iterable[str]) -> dict[str, Any]:
    """Return matplotlib's arguments for `texts`. Where no font has a character, it is left to matplotlib's own way.

    A comparison is hours of work: a label that cannot be drawn is no reason to lose it.
    """
    texts = tuple(texts)
    try:
        return lettering(texts).properties()
    except RegardError:
        return lettering([""]).properties()


def drawable(label: str) -> str:
    """Return `label` as it is drawn: on one line, at most 40 characters, question marks for what no font has."""
    text = visible(label)
    text = text if len(text) <= 40 else text[:39] + "…"
    try:
        lettering([text])
    except RegardError:
        text = text.encode("ascii", "replace").decode("ascii")
    return text


__all__ = [
    "BAND",
    "COLOURS",
    "DARK_COLOURS",
    "DASHES",
    "INK",
    "LINE",
    "MARKERS",
    "SIZE",
    "SOFT",
    "Look",
    "Panel",
    "Pen",
    "Picture",
    "drawable",
    "letters",
    "looks_of",
]
