"""What a comparison found: plain values, which the page, the figures, the JSON and the CSV files are made of.

Times are in seconds, losses in nats a target token, qualities in per cent, memory in bytes.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval (Koehn 2004, resampled sentences); without ends where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LengthQuality:
    """BLEU of the sentences whose source has `shortest` to `longest` words (None: no limit)."""

    shortest: int
    longest: int | None
    sentences: int
    bleu: Estimate


@dataclass(frozen=True)
class Judged:
    """A model at one point of its training, judged on the test part.

    Attributes:
        step, tokens, seconds: target tokens and seconds of training until then (validations not counted).
        loss: of the references.
        bleu, chrf, exact: of its translations.
        by_length: BLEU by words of the source.
        alignment_error: alignment error rate against gold links; None without gold or without attention.
        sentences_per_second: translated.
        signature: sacreBLEU's, of BLEU.
        weights_of: the step whose weights were judged, or the steps whose mean; empty in files of earlier versions.
    """

    step: int
    tokens: int
    seconds: float
    loss: float
    bleu: Estimate
    chrf: Estimate
    exact: float
    by_length: tuple[LengthQuality, ...]
    alignment_error: float | None
    sentences_per_second: float
    signature: str
    weights_of: tuple[int, ...] = ()


@dataclass(frozen=True)
class CurvePoint:
    """A validation: `bleu` and `exact` are of greedy translations of some sentences, None where none are translated."""

    step: int
    tokens: int
    seconds: float
    loss: float
    bleu: float | None
    exact: float | None


@dataclass(frozen=True)
class SeedRun:
    """One training of one model.

    Attributes:
        seed: of weights, order and dropout.
        steps, tokens, seconds: of the whole training, validations not counted.
        curve: its validations.
        training_loss: of the steps, thinned to at most 200 points (step, tokens, seconds, mean loss since the last).
        steps_to_target, seconds_to_target: when the validation loss first was at most the comparison's target.
        tokens_per_second: target tokens, of training steps alone: the median step.
        peak_memory: of the training process.
        largest_gradient: norm of all gradients before clipping, the largest of all steps; `median_gradient` the median.
        at_tokens: after as many target tokens as every model saw.
        at_seconds: after as many seconds as every model had.
    """

    seed: int
    steps: int
    tokens: int
    seconds: float
    curve: tuple[CurvePoint, ...]
    training_loss: tuple[tuple[int, int, float, float], ...]
    steps_to_target: int | None
    seconds_to_target: float | None
    tokens_per_second: float
    peak_memory: int | None
    largest_gradient: float
    median_gradient: float
    at_tokens: Judged
    at_seconds: Judged


@dataclass(frozen=True)
class LengthSpeed:
    """Microseconds a target token takes when source and target have `length` tokens each: a training step (forward,
    backward, no optimizer), and greedy decoding step by step."""

    length: int
    training: float
    decoding: float


@dataclass(frozen=True)
class ReachPoint:
    """Gradient norms at one distance: the median over sentences and positions, and the quartiles around it."""

    distance: int
    median: float
    lower: float
    upper: float
    count: int


@dataclass(frozen=True)
class Reach:
    """How far the past reaches in a trained model, by gradients with respect to each source embedding.

    Attributes:
        encoder: of the encoder's state at the position it reads last, by how many tokens it has read since.
        output: of the log-probability of each token of the reference, by the tokens read from there to the source's
            end, in the encoder's order, and on to the target token.
    """

    encoder: tuple[ReachPoint, ...]
    output: tuple[ReachPoint, ...]


@dataclass(frozen=True)
class ModelResult:
    """What is known of one model of the comparison; `runs` has one entry a seed."""

    label: str
    words: str
    parameters: int
    runs: tuple[SeedRun, ...]
    reach: Reach | None
    speed: tuple[LengthSpeed, ...]


@dataclass(frozen=True)
class Said:
    """A model's translation of a sentence, and what it looked at: weights (target words × source words), or None."""

    label: str
    text: str
    words: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class SentenceResult:
    """One test sentence in every model's translation."""

    source: str
    words: tuple[str, ...]
    reference: str
    said: tuple[Said, ...]


@dataclass(frozen=True)
class ProbeLength:
    """Strings of one length that the model had not seen: per cent said without a mistake, and of tokens right.

    `exact_low` and `exact_high` are the 95 % interval of `exact` (Wilson 1927), by the number of strings alone.
    """

    length: int
    strings: int
    exact: float
    tokens: float
    exact_low: float
    exact_high: float


@dataclass(frozen=True)
class ProbeRun:
    """One training of one model on one probe."""

    label: str
    seed: int
    words: str
    parameters: int
    steps: int
    tokens: int
    seconds: float
    lengths: tuple[ProbeLength, ...]


@dataclass(frozen=True)
class ProbeResult:
    """A probe: what is to be done with a string, and how well each model does it.

    Attributes:
        name: copy, reverse, recall.
        shortest, longest: lengths of the training strings; others were judged too.
        vocabulary: how many symbols there are.
        runs: of the models, in the order of the recipes, one for each seed.
    """

    name: str
    shortest: int
    longest: int
    vocabulary: int
    runs: tuple[ProbeRun, ...]


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        title: its heading.
        setting: what was equal for all, as names and values to be shown: data, tokenizer, batches, budget, machine.
        common_tokens, common_seconds: the points at which models are judged.
        target_loss: the validation loss that every model reached, which steps are counted to.
        models: in the order of the recipes; empty where there are probes only.
        sentences: some of the test part.
        probes: what was asked for.
        notes: what a reader has to know.
    """

    title: str
    setting: dict[str, str]
    common_tokens: int
    common_seconds: float
    target_loss: float
    models: tuple[ModelResult, ...]
    sentences: tuple[SentenceResult, ...]
    probes: tuple[ProbeResult, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values for `json.dump`; None for numbers that JSON doesn't have."""
        content: dict[str, Any] = finite(asdict(self))
        return content


def finite(value: Any) -> Any:
    """Plain values with None for numbers that are infinite or not a number, which JSON doesn't have."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
