"""The panels whose scale is logarithmic: time per token, gradients by distance, gradients in training."""

import math
from collections.abc import Callable, Sequence

from regard.runs.compare.report.formats import significant
from regard.runs.compare.report.measures import summarise
from regard.runs.compare.report.panels import Looks, make_rows, name_row
from regard.runs.compare.report.style import Panel, Pen
from regard.runs.compare.results import Comparison, LengthSpeed, Reach, ReachPoint


def time_panel(comparison: Comparison, looks: Looks, title: str, y: Callable[[LengthSpeed], float]) -> Panel:
    """Microseconds a token as sentences grow, both axes logarithmic."""
    models = [model for model in comparison.models if model.speed]

    def draw(pen: Pen) -> None:
        pen.frame("tokens in source and in target", "µs a target token", grid="both")
        for model in models:
            look = looks[model.label]
            points = sorted(model.speed, key=lambda s: s.length)
            pen.line(look, [p.length for p in points], [y(p) for p in points], look.label)
            for p in points:
                pen.point(look, p.length, y(p), f"{look.label}, {p.length} tokens: {significant(y(p))} µs a token")
        lengths = sorted({p.length for model in models for p in model.speed})
        _log(pen, "x", lengths)
        _log(pen, "y")

    said = []
    for model in models:
        points = sorted(model.speed, key=lambda s: s.length)
        first, last = points[0], points[-1]
        said.append(
            f"{model.label} from {significant(y(first))} µs at {first.length} tokens "
            f"to {significant(y(last))} µs at {last.length}"
        )
    return Panel(title, f"{title}: {'; '.join(said)}.", draw)


def reach_panel(
    comparison: Comparison,
    looks: Looks,
    title: str,
    across: str,
    of: Callable[[Reach], Sequence[ReachPoint]],
) -> Panel:
    """Gradient norms by distance: the median as a line, the quartiles as a band, logarithmic."""
    drawn = [(looks[m.label], sorted(of(m.reach), key=lambda p: p.distance)) for m in comparison.models if m.reach]
    drawn = [(look, points) for look, points in drawn if points]

    def draw(pen: Pen) -> None:
        pen.frame(across, "gradient norm", grid="y")
        for look, points in drawn:
            xs = [p.distance for p in points]
            pen.band(look, xs, [p.lower for p in points], [p.upper for p in points], f"{look.label}: middle half")
            pen.line(look, xs, [p.median for p in points], f"{look.label}: median", points=True)
        _log(pen, "y")

    said = "; ".join(
        f"{look.label} from {significant(points[0].median)} at distance {points[0].distance} "
        f"to {significant(points[-1].median)} at {points[-1].distance}"
        for look, points in drawn
    )
    return Panel(title, f"{title}, median gradient norm: {said}.", draw)


def gradient_panel(comparison: Comparison, looks: Looks) -> Panel:
    """From the median to the largest gradient norm of training, one row a model, logarithmic."""
    rows = []
    for model in comparison.models:
        largest = summarise([run.largest_gradient for run in model.runs])
        median = summarise([run.median_gradient for run in model.runs])
        if largest and median and math.isfinite(median.value) and median.least > 0:
            rows.append((looks[model.label], median.value, largest.most))

    def draw(pen: Pen) -> None:
        pen.frame("norm of all gradients before clipping", "", grid="x")
        finite = [value for _, *values in rows for value in values if math.isfinite(value)]
        for row, (look, median, largest) in enumerate(rows):
            end = largest if math.isfinite(largest) else max(finite, default=1.0) * 3
            says = f"{look.label}: median {significant(median)}, largest {significant(largest)}"
            pen.point(look, median, row, says, (median, end), flat=True)
            pen.axes.plot([end], [row], "|", color=look.colour, markersize=13, markeredgewidth=2.2)
            name_row(pen, look, row)
        _log(pen, "x")
        make_rows(pen, len(rows))

    said = "; ".join(f"{look.label} median {significant(m)}, largest {significant(top)}" for look, m, top in rows)
    return Panel("From the median to the largest norm", f"Gradient norms: {said}.", draw, height=80 + 44 * len(rows))


def _log(pen: Pen, axis: str, ticks: Sequence[float] | None = None) -> None:
    """Make an axis logarithmic, with plain numbers along it."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

    getattr(pen.axes, f"set_{axis}scale")("log", nonpositive="mask")
    scale = getattr(pen.axes, f"{axis}axis")
    low, high = getattr(pen.axes, f"get_{axis}lim")()
    decades = math.log10(high / low) if low > 0 and high > low else 1.0
    if ticks is not None:
        scale.set_major_locator(FixedLocator(list(ticks)))
    elif decades < 2.2:
        scale.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=8))
    scale.set_minor_locator(NullLocator())
    scale.set_major_formatter(_tick)


def _tick(value: float, _: int) -> str:
    if value <= 0:
        return ""
    power = math.log10(value)
    if -2 <= power < 6:
        return f"{value:,.6g}".replace(",", "\u202f")
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    mantissa = value / 10 ** math.floor(power + 1e-9)
    front = "" if abs(mantissa - 1) < 1e-6 else f"{mantissa:.0f}·"
    return f"{front}10{str(math.floor(power + 1e-9)).translate(digits)}"
