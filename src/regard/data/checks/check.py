"""Checking parallel text: each part is read once for a sample to learn from, and once to judge every pair."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from regard.data.checks.blocks import Lines, Mask, TextBlock, text_blocks
from regard.data.checks.comparison import TokenizerMaker, compare
from regard.data.checks.findings import Example, Finding, PartSummary, Report, ordered, shown
from regard.data.checks.judge import Judge, Learned
from regard.data.checks.languages import Sides, tell_apart
from regard.data.checks.lengths import LengthRatio
from regard.data.checks.overlap import Seen, Validation
from regard.data.checks.rules import RULES, Severity
from regard.data.checks.sampling import Sample, draw
from regard.data.pairs import PairReader
from regard.errors import ArgumentError, DataError

Progress = Callable[[str, int, int | None], None]
"""Is told what is being done, how many rows are done, and of how many, if that is known."""
Keep = Callable[["Part", TextBlock, Mask], None]
"""Takes a block and which of its rows belong into a cleaned copy."""

EXCHANGED: Final = 0.5
"""Share of a sample from which on the whole part is called exchanged."""
FEWEST: Final = 5
"""And the fewest such pairs."""
LONG: Final = 2000
"""Characters of a very long line, where no tokenizer says how many tokens they are."""


@dataclass(frozen=True)
class Part:
    """One part of the data.

    Attributes:
        name: "training", "training 2", "validation".
        reader: what reads it.
        validation: whether it is what training is judged by.
        stem: the name of its files in a cleaned copy.
        suffixes: their suffixes, for example (".en", ".de").
    """

    name: str
    reader: PairReader
    validation: bool = False
    stem: str = "train"
    suffixes: tuple[str, str] = (".src", ".tgt")


def check(
    parts: Sequence[Part],
    *,
    tokenizers: TokenizerMaker | None = None,
    max_length: int = 200,
    examples: int = 5,
    keep: Keep | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Look for what can be wrong with parallel text.

    Memory is bounded: 18 bytes for each training pair, some 60 for each validation pair, and whatever their number a
    sample of each part, a block of rows, and the lengths of a million rows in which shifts are looked for.

    Args:
        parts: at least one training part, at most one validation part, with different names.
        tokenizers: makes the tokenizers of source and target from pairs of the training sample, or gives finished
            ones; None leaves the checks with tokens out.
        max_length: tokens of the longest sentence that training takes.
        examples: how many places to give for each finding.
        keep: takes the rows for a cleaned copy, block by block.
        progress: is told how far it is.

    Raises:
        ArgumentError: there is no training part, or more than one validation part.
        DataError: a part cannot be read at all, has no row, or changes while it is read.
    """
    training, validating = ([part for part in parts if part.validation is kind] for kind in (False, True))
    if not training or len(validating) > 1:
        raise ArgumentError(f"parts: got {len(training)} training and {len(validating)} validation parts")
    samples = {part.name: _sample(part, progress) for part in parts}
    progress("learning from samples", 0, None)
    pairs, others = ([pair for part in some for pair in samples[part.name].pairs] for some in (training, validating))
    compared = compare(pairs, others, tokenizers)
    learned = _learn([samples[part.name] for part in training], max_length, compared.per_character)
    findings = [*compared.findings]
    if learned.sides is None:
        findings.append(_unchecked("which side is which language: the sides are too alike, or there are too few pairs"))
    if not validating:
        findings.append(Finding("no-validation", "", "", Severity.note, 0))
    validation, seen = Validation(examples), Seen(sum(samples[part.name].rows for part in training))
    summaries = {}
    for part in [*validating, *training]:  # what is looked for in the training parts comes first
        sample, place = samples[part.name], part.reader.name
        exchanged = _exchanged(part, sample, learned.sides)
        judge = Judge(
            part.name,
            place,
            sample.rows,
            learned if exchanged is None else replace(learned, sides=None),  # else every line would be named
            Seen(sample.rows) if part.validation else seen,
            None if part.validation else validation,
            examples,
        )
        for block in _blocks(part, sample, progress):
            kept = judge.judge(block)
            if part.validation:
                validation.add(block)
            if keep is not None:
                keep(part, block, kept)
        if part.validation:
            validation.close()
        if exchanged is not None:
            findings.append(exchanged)
        if sample.problem is not None:
            findings.append(Finding("incomplete", part.name, place, Severity.error, 0, sample.problem))
        findings += judge.findings()
        summaries[part.name] = PartSummary(part.name, place, sample.rows, dict(judge.dropped))
    for part in validating:
        findings += _overlaps(part, validation)
    return Report([summaries[part.name] for part in parts], ordered(findings))


def _sample(part: Part, progress: Progress) -> Sample:
    sample = draw(part.reader, 1, lambda rows: progress(f"reading {part.name}", rows, None))
    if sample.rows == 0:
        raise DataError(f"{part.reader.name}: there is no pair in it")
    return sample


def _blocks(part: Part, sample: Sample, progress: Progress) -> Iterator[TextBlock]:
    """All rows once more.

    Raises:
        DataError: there are not as many as before, or they can't be read as far as before.
    """
    rows = 0
    try:
        for block in text_blocks(part.reader.blocks()):
            rows += len(block)
            if rows > sample.rows:
                break
            yield block
            progress(f"checking {part.name}", rows, sample.rows)
    except DataError as error:
        if str(error) != sample.problem:
            raise
    if rows != sample.rows:
        raise DataError(f"{part.reader.name}: changed while it was read")


def _learn(samples: Sequence[Sample], max_length: int, per_character: tuple[float, float] | None) -> Learned:
    """From the training samples; the languages from the largest part, since others may be exchanged."""
    pairs = [pair for sample in samples for pair in sample.pairs]
    source, target = (Lines([pair[side] for pair in pairs]).lengths for side in (0, 1))
    largest = max(samples, key=lambda sample: sample.rows).pairs
    if per_character is None:
        long, why = (LONG, LONG), "whatever the tokens"
    else:
        long = (int(max_length / per_character[0]), int(max_length / per_character[1]))
        why = f"about data.max_length = {max_length} tokens"
    return Learned(
        LengthRatio.fit(source, target) if pairs else None,
        tell_apart(_block(largest[::2]), _block(largest[1::2])),
        long,
        why,
    )


def _exchanged(part: Part, sample: Sample, sides: Sides | None) -> Finding | None:
    """Whether most of a part has its sides exchanged, against the largest training part."""
    if sides is None or not sample.pairs:
        return None
    block = _block(sample.pairs)
    hit = sides.swapped(block)
    if hit.sum() < FEWEST or hit.mean() <= EXCHANGED:
        return None
    detail = f"{hit.mean():.0%} of its pairs, judged {sides} in the largest training part"
    text = next(shown(*pair) for pair, one in zip(sample.pairs, hit, strict=True) if one)
    return Finding("swapped-part", part.name, part.reader.name, Severity.error, 0, detail, (Example(0, text),))


def _overlaps(part: Part, validation: Validation) -> list[Finding]:
    findings = []
    for name, (count, examples) in (("overlap", validation.pairs()), ("overlap-sources", validation.sources())):
        if count:
            everything = name == "overlap" and count == validation.rows
            severity = Severity.error if everything else RULES[name].severity
            more = count - len(examples)
            findings.append(Finding(name, part.name, part.reader.name, severity, count, "", tuple(examples), more))
    return findings


def _unchecked(what: str) -> Finding:
    return Finding("unchecked", "", "", Severity.note, 0, what)


def _block(pairs: Sequence[tuple[str, str]]) -> TextBlock:
    """Pairs of a sample as a block."""
    source, target = (Lines([pair[side] for pair in pairs]) for side in (0, 1))
    return TextBlock(0, range(len(pairs)), source, target, {})
