"""The panels of a comparison's pictures: quality, curves, bars, probes."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from regard.runs.compare.report.formats import duration, fixed, short, whole
from regard.runs.compare.report.measures import Summary, summarise
from regard.runs.compare.report.style import BAND, INK, SOFT, Look, Panel, Pen, drawable
from regard.runs.compare.results import (
    Comparison,
    CurvePoint,
    Estimate,
    Judged,
    LengthQuality,
    ModelResult,
    ProbeResult,
    ProbeRun,
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
            pen.point(look, summary.value, row, f"{look.label}: {_interval(summary)}", summary.range, flat=True)
            name_row(pen, look, row)
        make_rows(pen, len(rows))
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
            pen.line(look, [p + shift for p, _ in found], [s.value for _, s in found], look.label, thin=True)
            for place, summary in found:
                says = f"{look.label}, {bin_name(bins[place])} words: {_interval(summary)}"
                pen.point(look, place + shift, summary.value, says, summary.range)
        axes.set_xticks(range(len(bins)), labels=[bin_name(bin_) for bin_ in bins])
        axes.set_xlim(-0.5, len(bins) - 0.5)
        axes.set_ylim(0, top * 1.05)

    said = []
    for model in models:
        ends = [s for bin_ in (bins[:1] + bins[-1:]) if (s := length_summary(model, bin_, at))]
        if len(ends) == 2:
            said.append(f"{model.label} from {fixed(ends[0].value, 1)} to {fixed(ends[1].value, 1)}")
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
    """A figure of the validations against steps or minutes: seeds thin, their mean bold, a ring where it is judged."""
    x: Callable[[CurvePoint], float] = (lambda p: p.seconds / 60) if by_time else (lambda p: p.step)
    is_loss = up == "loss"
    unit = "minutes" if by_time else "steps"

    def draw(pen: Pen) -> None:
        has_target = is_loss and math.isfinite(comparison.target_loss)
        target = f"; dotted: target {fixed(comparison.target_loss, 2)}" if has_target else ""
        name = f"validation loss (nats a token){target}" if is_loss else f"validation {up}, greedy"
        pen.frame(f"{unit} of training{_step_size(comparison) if not by_time else ''}", name)
        for model in comparison.models:
            look = looks[model.label]
            seeds = [(run, xs, ys) for run in model.runs for xs, ys in [_series(run.curve, x, y)] if xs]
            for run, xs, ys in seeds:
                named = look.label if len(model.runs) == 1 else f"{look.label}, seed {run.seed}"
                if len(seeds) > 1:
                    pen.line(look, xs, ys, named, thin=True)
                judged = run.at_seconds if by_time else run.at_tokens
                place = judged.seconds / 60 if by_time else float(judged.step)
                says = f"{named}: judged at step {whole(judged.step)}, after {duration(judged.seconds)}"
                pen.ring(look, place, float(np.interp(place, xs, ys)), says)
            if seeds:
                says = look.label if len(model.runs) == 1 else f"{look.label}, mean of {len(seeds)} seeds"
                pen.line(look, *mean_line([(xs, ys) for _, xs, ys in seeds]), says, points=True)
        axes = pen.axes
        if has_target:
            axes.axhline(comparison.target_loss, color=SOFT, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
        elif not is_loss:
            axes.set_ylim(bottom=0)
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


def bar_panel(
    title: str, looks: Looks, values: Sequence[tuple[str, Summary]], show: Callable[[float], str], across: str
) -> Panel:
    """Flat bars of means, one a model, with what the seeds span."""
    rows = [(looks[label], summary, _with_seeds(summary, show)) for label, summary in values]

    def draw(pen: Pen) -> None:
        axes = pen.axes
        pen.frame("", "", grid="x")
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        top = max((s.most for _, s, _ in rows if math.isfinite(s.most)), default=1.0) or 1.0
        for row, (look, summary, words) in enumerate(rows):
            shown = summary.value if math.isfinite(summary.value) else top
            end = shown
            pen.bar(look, row, shown, f"{look.label}: {words}")
            if summary.least < summary.most and math.isfinite(summary.most - summary.least):
                pen.span(look, row, summary.least, summary.most, f"{look.label}: {words}")
                end = summary.most
            name_row(pen, look, row)
            pen.write(end + top * 0.03, row, show(summary.value), look, va="center_baseline", color=INK, clip_on=False)
        axes.set_xlim(0, top * 1.32)
        make_rows(pen, len(rows))

    said = "; ".join(f"{look.label} {words}" for look, _, words in rows)
    return Panel(f"{title}, {across}" if across else title, f"{title}: {said}.", draw, 260, 36 + 46 * len(rows))


def probe_panel(probe: ProbeResult, looks: Looks) -> Panel:
    """Per cent of strings without a mistake by their length, with intervals; the range that was trained is shaded."""
    labels = list(dict.fromkeys(run.label for run in probe.runs))
    lengths = sorted({at.length for run in probe.runs for at in run.lengths})
    apart = 0.09 * min((b - a for a, b in pairwise(lengths)), default=1)  # so that bars stand beside each other

    def draw(pen: Pen) -> None:
        pen.frame("length of the string", "% without a mistake; shaded: trained lengths")
        axes = pen.axes
        axes.axvspan(probe.shortest - 0.5, probe.longest + 0.5, color=BAND, linewidth=0, zorder=0)
        for number, label in enumerate(labels):
            shift = apart * (number - (len(labels) - 1) / 2)
            look = looks[label]
            runs = [run for run in probe.runs if run.label == label and run.lengths]
            lines = [_probe_line(run, shift) for run in runs]
            if len(runs) > 1:
                for run, line in zip(runs, lines, strict=True):
                    pen.line(look, *line, f"{label}, seed {run.seed}", thin=True)
            if lines:
                pen.line(look, *mean_line(lines), label if len(runs) == 1 else f"{label}, mean of {len(runs)} seeds")
            for length, summary in _exact(runs):
                says = f"{label}, length {length}, per cent without a mistake: {_interval(summary)}"
                pen.point(look, length + shift, summary.value, says, summary.range)
        axes.set_ylim(-3, 104)

    said = []
    for label in labels:
        found = _exact([run for run in probe.runs if run.label == label])
        said.append(f"{label} " + ", ".join(f"{fixed(s.value, 0)} % at {length}" for length, s in found))
    title = f"{probe.name.capitalize()}, lengths {probe.shortest}–{probe.longest} trained"
    return Panel(title, f"{title}: {'; '.join(said)}.", draw)


def _probe_line(run: ProbeRun, shift: float) -> tuple[list[float], list[float]]:
    points = sorted(run.lengths, key=lambda at: at.length)
    return [at.length + shift for at in points], [at.exact for at in points]


def _exact(runs: Sequence[ProbeRun]) -> list[tuple[int, Summary]]:
    """Sum up the strings of each length without a mistake over seeds, by length."""
    found = {}
    for length in sorted({at.length for run in runs for at in run.lengths}):
        at_length = [at for run in runs for at in run.lengths if at.length == length]
        found[length] = summarise([Estimate(at.exact, at.exact_low, at.exact_high) for at in at_length])
    return [(length, summary) for length, summary in found.items() if summary]


def _series(
    curve: Sequence[CurvePoint], x: Callable[[CurvePoint], float], y: Callable[[CurvePoint], float | None]
) -> tuple[list[float], list[float]]:
    found = [(x(p), value) for p in curve if (value := y(p)) is not None and math.isfinite(value)]
    return [float(a) for a, _ in found], [float(b) for _, b in found]


def _step_size(comparison: Comparison) -> str:
    runs = [run for model in comparison.models for run in model.runs if run.steps]
    return (
        f" (about {short(sum(r.tokens for r in runs) / sum(r.steps for r in runs))} target tokens each)" if runs else ""
    )


def _interval(summary: Summary) -> str:
    text = fixed(summary.value, 1)
    if summary.seeds > 1:
        text += f" (seeds {fixed(summary.least, 1)} to {fixed(summary.most, 1)})"
    if summary.low is not None and summary.high is not None:
        text += f", 95 % interval {fixed(summary.low, 1)} to {fixed(summary.high, 1)}"
    return text


def _with_seeds(summary: Summary, show: Callable[[float], str]) -> str:
    spread = f" (seeds {show(summary.least)} to {show(summary.most)})"
    return show(summary.value) + (spread if summary.least < summary.most else "")


def _judged(run: SeedRun) -> tuple[Judged, Judged]:
    return run.at_tokens, run.at_seconds


def _span(comparison: Comparison) -> tuple[float, float]:
    """Return the ends of all models' BLEU at both points, so that their pictures have one scale."""
    bleus = [judged.bleu for model in comparison.models for run in model.runs for judged in _judged(run)]
    low = min((b.value if b.low is None else b.low for b in bleus), default=0.0)
    high = max((b.value if b.high is None else b.high for b in bleus), default=1.0)
    spare = max(0.06 * (high - low), 0.5)
    return low - spare, high + spare


def make_rows(pen: Pen, count: int) -> None:
    """Make room for so many rows, the first at the top, with their names above them instead of ticks."""
    pen.axes.set_yticks([])
    pen.axes.set_ylim(count - 0.55, -0.8)


def name_row(pen: Pen, look: Look, row: float) -> None:
    """Write a model's name above its row."""
    label = drawable(look.label)
    where = pen.axes.get_yaxis_transform()
    pen.write(0.0, row - 0.27, label, look, transform=where, ha="left", va="bottom", color=INK)
