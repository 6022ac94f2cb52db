"""The panels of a comparison's pictures: quality, curves, speed, reach, gradients, probes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from regard.runs.compare.figure_style import BAND, INK, SOFT, Look, Panel, Pen, drawable
from regard.runs.compare.page_measures import Summary, summarise
from regard.runs.compare.page_numbers import fixed, short, significant
from regard.runs.compare.results import (
    Comparison,
    CurvePoint,
    Judged,
    LengthQuality,
    LengthSpeed,
    ModelResult,
    ProbeResult,
    ProbeRun,
    Reach,
    ReachPoint,
    SeedRun,
)

Looks = dict[str, Look]


def quality_panel(comparison: Comparison, looks: Looks, title: str, at: Callable[[SeedRun], Judged]) -> Panel:
    """BLEU of every model as a point with its interval, one row a model."""
    rows = [(looks[m.label], s) for m in comparison.models if (s := summarise([at(run).bleu for run in m.runs]))]
    span = _span(comparison)

    def draw(pen: Pen) -> None:
        pen.frame("BLEU", "", grid="x")
        for row, (look, summary) in enumerate(rows):
            pen.point(look, summary.mean, row, f"{look.label}: {_interval(summary)}", summary.range, flat=True)
            _name_row(pen, look, row)
        _rows(pen, len(rows))
        pen.axes.set_xlim(*span)

    said = "; ".join(f"{look.label} {_interval(summary)}" for look, summary in rows)
    return Panel(title, f"BLEU: {said}.", draw, height=80 + 44 * len(rows))


def length_panel(comparison: Comparison, looks: Looks, title: str, at: Callable[[SeedRun], Judged]) -> Panel:
    """BLEU by words of the source, with intervals, the models beside each other."""
    bins = length_bins(comparison.models, at)
    models = [model for model in comparison.models if model.runs]
    qualities = [q.bleu for m in models for run in m.runs for j in _judged(run) for q in j.by_length if q.sentences]
    top = max((q.value if q.high is None else q.high for q in qualities), default=0.0) or 1.0

    def draw(pen: Pen) -> None:
        pen.frame("words of the source", "BLEU")
        axes = pen.axes
        for place in range(1, len(bins), 2):
            axes.axvspan(place - 0.5, place + 0.5, color=BAND, linewidth=0, zorder=0)
        for number, model in enumerate(models):
            look = looks[model.label]
            shift = (number - (len(models) - 1) / 2) * min(0.17, 0.72 / len(models))
            found = [(place, s) for place, bin_ in enumerate(bins) if (s := length_summary(model, bin_, at))]
            pen.line(look, [p + shift for p, _ in found], [s.mean for _, s in found], look.label, thin=True)
            for place, summary in found:
                says = f"{look.label}, {bin_name(bins[place])} words: {_interval(summary)}"
                pen.point(look, place + shift, summary.mean, says, summary.range)
        axes.set_xticks(range(len(bins)), labels=[bin_name(bin_) for bin_ in bins])
        axes.set_xlim(-0.5, len(bins) - 0.5)
        axes.set_ylim(0, top * 1.05)

    said = []
    for model in models:
        ends = [s for bin_ in (bins[:1] + bins[-1:]) if (s := length_summary(model, bin_, at))]
        if len(ends) == 2:
            said.append(f"{model.label} from {fixed(ends[0].mean, 1)} to {fixed(ends[1].mean, 1)}")
    return Panel(title, f"BLEU from the shortest to the longest sources: {'; '.join(said)}.", draw)


def length_bins(models: Sequence[ModelResult], at: Callable[[SeedRun], Judged]) -> list[tuple[int, int | None]]:
    """Return the ranges of source lengths in order: shortest, longest."""
    bins = {(q.shortest, q.longest) for model in models for run in model.runs for q in at(run).by_length}
    return sorted(bins, key=lambda pair: (pair[0], math.inf if pair[1] is None else pair[1]))


def length_summary(model: ModelResult, bin_: tuple[int, int | None], at: Callable[[SeedRun], Judged]) -> Summary | None:
    """Sum up a model's BLEU of one range of lengths; None without sentences."""

    def matching(qualities: Iterable[LengthQuality]) -> Any:
        return next((q.bleu for q in qualities if (q.shortest, q.longest) == bin_ and q.sentences), None)

    return summarise([matching(at(run).by_length) for run in model.runs])


def bin_name(bin_: tuple[int, int | None]) -> str:
    """Return a range of lengths in words: 1–8, 25 +."""
    shortest, longest = bin_
    if longest is None:
        return f"{shortest}\u202f+"
    return f"{shortest}" if longest == shortest else f"{shortest}–{longest}"


def curve_panel(
    comparison: Comparison,
    looks: Looks,
    up: str,
    y: Callable[[CurvePoint], float | None],
    by_time: bool,
) -> Panel:
    """A figure of the validations against steps or minutes: seeds thin, their mean bold."""
    x: Callable[[CurvePoint], float] = (lambda p: p.seconds / 60) if by_time else (lambda p: p.step)
    is_loss = up == "loss"
    unit = "minutes" if by_time else "steps"

    def draw(pen: Pen) -> None:
        name = "validation loss (nats a token)" if is_loss else f"validation {up}, greedy"
        pen.frame(f"{unit} of training{_step_size(comparison) if not by_time else ''}", name)
        for model in comparison.models:
            look = looks[model.label]
            seeds = [_series(run.curve, x, y) for run in model.runs]
            seeds = [(xs, ys) for xs, ys in seeds if xs]
            if len(seeds) > 1:
                for run, (xs, ys) in zip(model.runs, seeds, strict=False):
                    pen.line(look, xs, ys, f"{look.label}, seed {run.seed}", thin=True)
            if seeds:
                says = look.label if len(seeds) == 1 else f"{look.label}, mean of {len(seeds)} seeds"
                pen.line(look, *mean_line(seeds), says, points=True)
        axes = pen.axes
        if is_loss and math.isfinite(comparison.target_loss):
            axes.axhline(comparison.target_loss, color=SOFT, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
            how: dict[str, Any] = {"ha": "right", "va": "bottom", "transform": axes.get_yaxis_transform()}
            pen.write(1.0, comparison.target_loss, f"target {fixed(comparison.target_loss, 2)}", **how)
        elif not is_loss:
            axes.set_ylim(bottom=0)
        judged = comparison.common_seconds / 60 if by_time else _common_steps(comparison)
        if judged is not None:
            axes.axvline(judged, color=SOFT, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
            # where the curves are not: losses fall, BLEU rises
            y_of, side = (0.99, "top") if is_loss else (0.02, "bottom")
            how = {"ha": "right", "va": side, "rotation": 90, "transform": axes.get_xaxis_transform()}
            pen.write(judged, y_of, "judged here", **how)
        axes.set_xlim(left=0)

    title = f"{'Loss' if is_loss else up} against {'time' if by_time else 'steps'}"
    ends = []
    for model in comparison.models:
        last = [ys[-1] for run in model.runs if (ys := _series(run.curve, x, y)[1])]
        if last:
            ends.append(f"{model.label} {fixed(sum(last) / len(last), 2 if is_loss else 1)}")
    return Panel(title, f"{title}. At the end: {'; '.join(ends)}.", draw)


def mean_line(seeds: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """Return the mean of several lines where all of them run, at the places of the first."""
    if len(seeds) == 1:
        return seeds[0]
    start, end = max(xs[0] for xs, _ in seeds), min(xs[-1] for xs, _ in seeds)
    places = sorted({x for x in seeds[0][0] if start <= x <= end} | {start, end}) if start <= end else seeds[0][0]
    means = np.mean([np.interp(places, xs, ys) for xs, ys in seeds], axis=0)
    return [float(x) for x in places], [float(m) for m in means]


def bar_panel(title: str, looks: Looks, values: Sequence[tuple[str, float, str]], across: str) -> Panel:
    """Flat bars, one a model: label, value, value in words."""

    def draw(pen: Pen) -> None:
        axes = pen.axes
        pen.frame("", "", grid="x")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        top = max((value for _, value, _ in values if math.isfinite(value)), default=1.0) or 1.0
        for row, (label, value, words) in enumerate(values):
            look = looks[label]
            pen.bar(look, row, value if math.isfinite(value) else top, f"{label}: {words}")
            _name_row(pen, look, row)
            shown = value if math.isfinite(value) else top
            pen.write(shown + top * 0.02, row, words, look, va="center_baseline", color=INK, clip_on=False)
        axes.set_xlim(0, top * 1.32)
        _rows(pen, len(values))

    said = "; ".join(f"{label} {words}" for label, _, words in values)
    return Panel(f"{title}, {across}" if across else title, f"{title}: {said}.", draw, 260, 36 + 46 * len(values))


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
        if largest and median and math.isfinite(median.mean) and median.least > 0:
            rows.append((looks[model.label], median.mean, largest.most))

    def draw(pen: Pen) -> None:
        pen.frame("norm of all gradients before clipping", "", grid="x")
        finite = [value for _, *values in rows for value in values if math.isfinite(value)]
        for row, (look, median, largest) in enumerate(rows):
            end = largest if math.isfinite(largest) else max(finite, default=1.0) * 3
            says = f"{look.label}: median {significant(median)}, largest {significant(largest)}"
            pen.point(look, median, row, says, (median, end), flat=True)
            pen.axes.plot([end], [row], "|", color=look.colour, markersize=13, markeredgewidth=2.2)
            _name_row(pen, look, row)
        _log(pen, "x")
        _rows(pen, len(rows))

    said = "; ".join(f"{look.label} median {significant(m)}, largest {significant(top)}" for look, m, top in rows)
    return Panel("From the median to the largest norm", f"Gradient norms: {said}.", draw, height=80 + 44 * len(rows))


def probe_panel(probe: ProbeResult, looks: Looks) -> Panel:
    """Per cent of strings without a mistake by their length; the range that was trained is shaded."""
    labels = list(dict.fromkeys(run.label for run in probe.runs))

    def draw(pen: Pen) -> None:
        pen.frame("length of the string", "% without a mistake")
        axes = pen.axes
        axes.axvspan(probe.shortest - 0.5, probe.longest + 0.5, color=BAND, linewidth=0, zorder=0)
        for label in labels:
            runs = [run for run in probe.runs if run.label == label]
            look = looks[label]
            if len(runs) > 1:
                for run in runs:
                    pen.line(look, *_probe_line(run), f"{label}, seed {run.seed}", thin=True)
            seeds = [_probe_line(run) for run in runs if run.lengths]
            if seeds:
                pen.line(look, *mean_line(seeds), label if len(runs) == 1 else f"{label}, mean of {len(runs)} seeds")
            for length in sorted({at.length for run in runs for at in run.lengths}):
                summary = summarise([_exact_at(run, length) for run in runs])
                if summary:
                    says = f"{label}, length {length}: {fixed(summary.mean, 1)} % without a mistake"
                    pen.point(look, length, summary.mean, says)
        axes.set_ylim(-3, 104)
        middle = (probe.shortest + probe.longest) / 2
        pen.write(middle, 0.02, "trained", ha="center", va="bottom", transform=axes.get_xaxis_transform())

    said = []
    for label in labels:
        points = _probe_line(next(run for run in probe.runs if run.label == label))
        said.append(f"{label} " + ", ".join(f"{fixed(y, 0)} % at {x:.0f}" for x, y in zip(*points, strict=True)))
    title = f"{probe.name.capitalize()}, lengths {probe.shortest}–{probe.longest} trained"
    return Panel(title, f"{title}: {'; '.join(said)}.", draw)


def _probe_line(run: ProbeRun) -> tuple[list[float], list[float]]:
    points = sorted(run.lengths, key=lambda at: at.length)
    return [float(at.length) for at in points], [at.exact for at in points]


def _exact_at(run: ProbeRun, length: int) -> float | None:
    return next((at.exact for at in run.lengths if at.length == length), None)


def _series(
    curve: Sequence[CurvePoint], x: Callable[[CurvePoint], float], y: Callable[[CurvePoint], float | None]
) -> tuple[list[float], list[float]]:
    found = [(x(p), value) for p in curve if (value := y(p)) is not None and math.isfinite(value)]
    return [float(a) for a, _ in found], [float(b) for _, b in found]


def _common_steps(comparison: Comparison) -> float | None:
    steps = {run.at_tokens.step for model in comparison.models for run in model.runs}
    return float(steps.pop()) if len(steps) == 1 else None


def _step_size(comparison: Comparison) -> str:
    runs = [run for model in comparison.models for run in model.runs if run.steps]
    return (
        f" (about {short(sum(r.tokens for r in runs) / sum(r.steps for r in runs))} target tokens each)" if runs else ""
    )


def _interval(summary: Summary) -> str:
    text = fixed(summary.mean, 1)
    if summary.seeds > 1:
        text += f" (seeds {fixed(summary.least, 1)} to {fixed(summary.most, 1)})"
    if summary.low is not None and summary.high is not None:
        text += f", 95 % interval {fixed(summary.low, 1)} to {fixed(summary.high, 1)}"
    return text


def _judged(run: SeedRun) -> tuple[Judged, Judged]:
    return run.at_tokens, run.at_seconds


def _span(comparison: Comparison) -> tuple[float, float]:
    """Return the ends of all models' BLEU at both points, so that their pictures have one scale."""
    bleus = [judged.bleu for model in comparison.models for run in model.runs for judged in _judged(run)]
    low = min((b.value if b.low is None else b.low for b in bleus), default=0.0)
    high = max((b.value if b.high is None else b.high for b in bleus), default=1.0)
    spare = max(0.06 * (high - low), 0.5)
    return low - spare, high + spare


def _rows(pen: Pen, count: int) -> None:
    """Make room for so many rows, the first at the top, with their names above them instead of ticks."""
    pen.axes.set_yticks([])
    pen.axes.set_ylim(count - 0.55, -0.8)


def _name_row(pen: Pen, look: Look, row: float) -> None:
    label = drawable(look.label)
    where = pen.axes.get_yaxis_transform()
    pen.write(0.0, row - 0.27, label, look, transform=where, ha="left", va="bottom", color=INK)


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
