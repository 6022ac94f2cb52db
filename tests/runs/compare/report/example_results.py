"""A full comparison as it could come out of `regard compare`, made of fixed random numbers; any part can be missing."""

import math
import random
from dataclasses import dataclass

from regard.runs.compare.results import (
    Comparison,
    CurvePoint,
    Estimate,
    Judged,
    LengthQuality,
    LengthSpeed,
    ModelResult,
    ProbeLength,
    ProbeResult,
    ProbeRun,
    Reach,
    ReachPoint,
    Said,
    SeedRun,
    SentenceResult,
)

BINS = ((1, 8), (9, 12), (13, 16), (17, 24), (25, None))
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"


@dataclass(frozen=True)
class Nature:
    """What an invented model is like."""

    label: str
    words: str
    parameters: int
    bleu: float
    decline: float
    pace: float
    reach: float
    gradient: float
    attends: bool


NATURES = (
    Nature("no attention", "LSTM, one context vector (Sutskever)", 8_212_480, 21.4, 3.4, 5200, 0.85, 48.0, False),
    Nature("Bahdanau", "GRU, additive attention", 9_020_416, 31.2, 0.9, 3100, 0.93, 9.3, True),
    Nature("Luong", "LSTM, general attention, input feeding", 9_412_608, 32.9, 0.8, 3900, 0.92, 11.8, True),
    Nature("Transformer", "3 + 3 layers, 4 heads", 7_650_304, 33.6, 0.6, 9800, 0.995, 4.1, True),
)

PAIRS = (
    (
        "Two young men are playing football on a green field .",
        "Zwei junge Männer spielen Fußball auf einem grünen Feld .",
        "Zwei junge Männer spielen auf einem grünen Feld Fußball .",
    ),
    ("The train leaves at half past six on Tuesday .", "火车 星期二 六点半 出发 。", "火车 在 星期二 六点半 离开 。"),
    (
        "A woman in a red coat who had been waiting for the bus for almost an hour reads the newspaper "
        "that somebody left behind on the bench .",
        "Eine Frau in einem roten Mantel , die seit fast einer Stunde auf den Bus gewartet hatte , liest die Zeitung , "
        "die jemand auf der Bank liegen ließ .",
        "Eine Frau in einem roten Mantel liest eine Zeitung , die jemand auf der Bank gelassen hat , und wartet "
        "auf den Bus .",
    ),
    ("Never say never .", "Sag niemals nie .", "Sag niemals nie ."),
)


def example_comparison(
    seeds: int = 1, probes: bool = True, models: bool = True, sentences: bool = True, complete: bool = True
) -> Comparison:
    """Build a comparison of four models; `complete=False` leaves out what a model or a recipe may not have."""
    luck = random.Random(17)
    return Comparison(
        title="From one context vector to attention: Multi30k en→de",
        setting={
            "data": "Multi30k, 29 000 training pairs, 1 014 for validation, 1 000 for testing",
            "tokenizer": "joint BPE, 8 000 symbols",
            "batches": "2 048 target tokens a step, the same order for all",
            "budget": "15 minutes a model",
            "decoding": "beam 4, average log-probability",
            "machine": "2 cores, no accelerator",
        },
        common_tokens=2_640_000,
        common_seconds=900.0,
        target_loss=2.9,
        models=tuple(_model(nature, seeds, luck, complete) for nature in NATURES) if models else (),
        sentences=tuple(_sentence(*pair, luck) for pair in PAIRS) if models and sentences else (),
        probes=tuple(_probe(name, seeds, luck) for name in ("copy", "reverse", "recall")) if probes else (),
        notes=(
            "Times were taken on a machine with other work on it: differences below a tenth mean nothing.",
            "BLEU is sacreBLEU's on detokenised text; figures of papers of 2014 to 2017 are not comparable with it.",
        ),
    )


def _estimate(value: float, width: float) -> Estimate:
    return Estimate(value, max(0.0, value - width), min(100.0, value + width))


def _judged(nature: Nature, steps: int, share: float, luck: random.Random, complete: bool) -> Judged:
    bleu = nature.bleu * share + luck.gauss(0, 0.5)
    by_length = tuple(
        LengthQuality(low, high, 260 - 45 * i, _estimate(max(1, bleu + 3 - nature.decline * i * 1.7), 1.5 + 0.6 * i))
        for i, (low, high) in enumerate(BINS)
    )
    return Judged(
        step=steps,
        tokens=steps * 2048,
        seconds=steps * 2048 / nature.pace,
        loss=5.1 - nature.bleu / 12 * share,
        bleu=_estimate(bleu, 1.3),
        chrf=_estimate(bleu + 24, 1.1),
        exact=bleu / 3,
        by_length=by_length,
        alignment_error=55 - nature.bleu if nature.attends and complete else None,
        sentences_per_second=nature.pace / 90,
        signature=SIGNATURE,
    )


def _run(nature: Nature, seed: int, luck: random.Random, complete: bool) -> SeedRun:
    steps = round(nature.pace * 900 / 2048)
    curve, loss_of = [], []
    for step in sorted({*range(100, steps, 150), 1290, steps}):
        loss = 5.1 - nature.bleu / 12 + 3.4 * math.exp(-step / 420) + luck.gauss(0, 0.03)
        bleu = nature.bleu * (1 - math.exp(-step / 700)) + luck.gauss(0, 0.4) if complete else None
        curve.append(CurvePoint(step, step * 2048, step * 2048 / nature.pace, loss, bleu, bleu and max(0.0, bleu / 3)))
        loss_of.append((step, step * 2048, step * 2048 / nature.pace, loss + 0.2))
    reached = next((p for p in curve if p.loss <= 2.9), None)
    return SeedRun(
        seed=seed,
        steps=steps,
        tokens=steps * 2048,
        seconds=900.0,
        curve=tuple(curve),
        training_loss=tuple(loss_of),
        steps_to_target=reached.step if reached else None,
        seconds_to_target=reached.seconds if reached else None,
        tokens_per_second=nature.pace * luck.uniform(0.98, 1.02),
        peak_memory=round(nature.parameters * 80 * luck.uniform(0.98, 1.02)) if complete else None,
        largest_gradient=nature.gradient * luck.uniform(0.8, 1.2),
        median_gradient=0.9 * luck.uniform(0.9, 1.1),
        at_tokens=_judged(nature, 1290, 0.93, luck, complete),
        at_seconds=_judged(nature, steps, 1.0, luck, complete),
    )


def _model(nature: Nature, seeds: int, luck: random.Random, complete: bool) -> ModelResult:
    def point(distance: int, scale: float) -> ReachPoint:
        median = scale * nature.reach ** (distance * 2.2) * luck.uniform(0.9, 1.1)
        return ReachPoint(distance, median, median * 0.6, median * 1.7, 400 - 8 * distance)

    reach = Reach(
        tuple(point(distance, 0.4) for distance in range(40)),
        tuple(point(distance, 0.08) for distance in range(1, 70)),
    )
    parallel = nature.label == "Transformer"
    speed = tuple(
        LengthSpeed(
            length, 3e6 / nature.pace * (1 if parallel else 1 + 40 / length), 4e5 / nature.pace + 3 * length**0.5
        )
        for length in (8, 16, 32, 64, 128)
    )
    return ModelResult(
        label=nature.label,
        words=nature.words,
        parameters=nature.parameters,
        runs=tuple(_run(nature, seed, luck, complete) for seed in range(1, seeds + 1)),
        reach=reach if complete else None,
        speed=speed if complete else (),
    )


def _sentence(source: str, reference: str, translation: str, luck: random.Random) -> SentenceResult:
    words = tuple(source.split())
    said = []
    for number, nature in enumerate(NATURES):
        target = tuple(translation.split())
        if number == 0:
            target = target[: max(2, len(target) // 2)]
        elif number == 1 and len(target) > 3:
            target = (target[1], target[0], *target[2:])
        weights = tuple(_row(j / len(target) * len(words), len(words), luck) for j in range(len(target)))
        joined = ("" if "。" in target else " ").join(target)
        said.append(Said(nature.label, joined, target, weights if nature.attends else None))
    return SentenceResult(source, words, reference, tuple(said))


def _row(middle: float, count: int, luck: random.Random) -> tuple[float, ...]:
    raw = [math.exp(-((i - middle) ** 2) / luck.uniform(0.4, 3.0)) + luck.uniform(0, 0.05) for i in range(count)]
    return tuple(value / sum(raw) for value in raw)


def _probe_length(length: int, exact: float) -> ProbeLength:
    low, high = max(0.0, exact - 5), min(100.0, exact + 5)
    return ProbeLength(
        length=length, strings=200, exact=exact, exact_low=low, exact_high=high, tokens=100 - (100 - exact) * 0.6
    )


def _probe(name: str, seeds: int, luck: random.Random) -> ProbeResult:
    runs = []
    for nature in NATURES:
        for seed in range(1, seeds + 1):
            limit = {"no attention": 12, "Bahdanau": 24, "Luong": 34, "Transformer": 22}[nature.label]
            lengths = []
            for length in (5, 10, 15, 20, 25, 30, 40):
                exact = 100 / (1 + math.exp((length - limit) / 2)) * luck.uniform(0.95, 1)
                lengths.append(_probe_length(length, exact))
            runs.append(ProbeRun(nature.label, seed, nature.words, 1_200_000, 1500, 1_400_000, 110.0, tuple(lengths)))
    return ProbeResult(name, 5, 20, 50, tuple(runs))
