"""Draw how runs of language models came along, beside the line of an n-gram model on the same tokens.

    python benchmarks/kneser_ney.py runs/wikitext2-gpt --train train.txt.gz --valid valid.txt --json kneser_ney.json
    python benchmarks/perplexity_curves.py runs/wikitext2-gpt --ngram kneser_ney.json --png perplexity.png
    python benchmarks/perplexity_curves.py runs/wikitext2-gpt runs/wikitext2-bert --ngram kneser_ney.json --png both.png

A run is read from its log.jsonl: the validations, by the minutes of training before them. Perplexity and its n-gram
line are one panel; runs of masked models, whose perplexity is of other tokens, are a second: the share of masked tokens
that they restore.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.runs.compare.report.figures import write_picture
from regard.runs.compare.report.style import INK, SIZE, Look, Panel, Pen, Picture
from regard.runs.directory import read_config

TICKS = (5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000)


@dataclass(frozen=True)
class Curve:
    """The validations of a run.

    Attributes:
        look: its name and colour.
        task: as its config.json says.
        minutes: of training before each validation.
        metrics: of each.
    """

    look: Look
    task: str
    minutes: list[float]
    metrics: list[dict[str, float]]

    def values(self, name: str) -> list[float]:
        return [metrics[name] for metrics in self.metrics]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="directories of finished runs")
    parser.add_argument("--ngram", type=Path, help="what kneser_ney.py wrote with --json")
    parser.add_argument("--png", type=Path, required=True)
    options = parser.parse_args()
    curves = [read_curve(run, Look(run.name, number)) for number, run in enumerate(options.runs)]
    ngram = None if options.ngram is None else json.loads(options.ngram.read_text("utf-8"))
    masked = [curve for curve in curves if curve.task == "masked_language_modelling"]
    running = [curve for curve in curves if curve not in masked]
    panels = [perplexity_panel(running, ngram)] if running else []
    panels += [accuracy_panel(masked)] if masked else []
    looks = tuple(curve.look for curve in curves)
    write_picture(Picture("perplexity", "Validation while it trains", tuple(panels), 2, looks), options.png)
    for panel in panels:
        print(panel.says)


def read_curve(run: Path, look: Look) -> Curve:
    """The validations of a run; of steps that were taken twice, after an interruption, the later ones."""
    seconds: dict[int, float] = {}
    found: dict[int, dict[str, float]] = {}
    for line in (run / "log.jsonl").read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            seconds[event["step"]] = event["seconds"]
        elif event["event"] == "validation":
            found[event["step"]] = event["metrics"]
    steps = sorted(found)
    minutes = [sum(s for step, s in seconds.items() if step <= last) / 60 for last in steps]
    return Curve(look, read_config(run).task, minutes, [found[step] for step in steps])


def perplexity_panel(curves: Sequence[Curve], ngram: dict[str, Any] | None) -> Panel:
    """Perplexity by minutes, on a logarithmic axis, and the n-gram's as a level line."""
    lines = [(curve, curve.values("perplexity")) for curve in curves]
    level = None if ngram is None else float(ngram["modified"]["perplexity"])
    name = None if ngram is None else f"Kneser–Ney {ngram['order']}-gram: {level:.1f}"
    lowest = min([value for _, values in lines for value in values] + ([] if level is None else [level]))
    # the first validations are far above anything of interest
    ceiling = max(5.0 * lowest, 1.1 * max(values[len(values) // 4] for _, values in lines))
    ticks = [tick for tick in TICKS if 0.85 * lowest < tick <= ceiling]

    def draw(pen: Pen) -> None:
        pen.frame("minutes of training", "perplexity of a token")
        for curve, values in lines:
            pen.line(curve.look, curve.minutes, values, curve.look.label, points=True)
            mark_last(pen, curve, values)
        if level is not None:
            pen.axes.axhline(level, color=INK, linewidth=1.4, linestyle=(0, (4, 2)), zorder=2)
            pen.write(0.1, level, f"{name}", color=INK, ha="left", va="bottom")  # where the curves are far above
        pen.axes.set_yscale("log")
        pen.axes.set_yticks(ticks, labels=[str(tick) for tick in ticks])
        pen.axes.set_yticks([], minor=True)
        pen.axes.set_ylim(0.85 * lowest, ceiling)
        whole_minutes(pen)

    said = "; ".join(f"{curve.look.label} from {values[0]:.1f} to {values[-1]:.1f}" for curve, values in lines)
    said += "" if name is None else f"; {name}"
    return Panel("Perplexity of validation text", f"Perplexity: {said}.", draw)


def accuracy_panel(curves: Sequence[Curve]) -> Panel:
    """The share of masked tokens that are restored, by minutes."""
    lines = [(curve, [100 * value for value in curve.values("accuracy")]) for curve in curves]

    def draw(pen: Pen) -> None:
        pen.frame("minutes of training", "% of masked tokens")
        for curve, values in lines:
            pen.line(curve.look, curve.minutes, values, curve.look.label, points=True)
            mark_last(pen, curve, values)
        pen.axes.set_ylim(0, 1.15 * max(value for _, values in lines for value in values))
        whole_minutes(pen)

    said = "; ".join(f"{curve.look.label} {values[-1]:.1f} %" for curve, values in lines)
    return Panel("Masked tokens restored", f"Masked tokens restored: {said}.", draw)


def mark_last(pen: Pen, curve: Curve, values: Sequence[float]) -> None:
    """Write the last value above the end of a line."""
    pen.axes.annotate(
        f"{values[-1]:.1f}", (curve.minutes[-1], values[-1]), (0, 6), textcoords="offset points",
        color=curve.look.colour, fontsize=SIZE - 1, ha="right", va="bottom",
    )  # fmt: skip


def whole_minutes(pen: Pen) -> None:
    """Ticks at whole minutes, from 0."""
    pen.axes.set_xlim(left=0)
    pen.axes.locator_params(axis="x", integer=True)


if __name__ == "__main__":
    main()
