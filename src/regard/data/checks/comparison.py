"""Comparing samples of training and validation: how they are written, and how a tokenizer fits them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regard.data.checks.characters import visible
from regard.data.checks.findings import Example, Finding
from regard.data.checks.rules import RULES
from regard.data.checks.style import LEAST, Fit, differences, fit, oddities, profile, worse
from regard.data.tokenizers import Tokenizer
from regard.errors import RegardError

Pairs = Sequence[tuple[str, str]]
TokenizerMaker = Callable[[Pairs], tuple[Tokenizer, Tokenizer]]
"""Gives the tokenizers of source and target, made from these pairs or finished before."""

SIDES = ("source", "target")


@dataclass(frozen=True)
class Comparison:
    """What the samples say.

    Attributes:
        findings: differences between training and validation, and oddities of the training text.
        per_character: tokens for each character of training text on both sides; None without tokenizers.
    """

    findings: list[Finding]
    per_character: tuple[float, float] | None


def compare(training: Pairs, validation: Pairs, tokenizers: TokenizerMaker | None) -> Comparison:
    """Compare samples; of the validation part, nothing is said if it has fewer than `LEAST` pairs.

    Tokenizers are made from every second pair of training and judged by the others, since they fit what they were made
    from better than anything else.
    """
    findings: list[Finding] = []
    for side, name in enumerate(SIDES):
        ours, theirs = (profile([pair[side] for pair in pairs]) for pairs in (training, validation))
        for words, line in oddities(ours):
            findings.append(_about("prepared", f"{name} side: {words}", (Example(0, visible(line, 120)),)))
        findings += [_about("mismatch", f"{name} side: {words}") for words in differences(ours, theirs)]
    if tokenizers is None or len(training) < 2:
        return Comparison(findings, None)
    try:
        made = tokenizers(training[::2])
    except RegardError as error:
        findings.append(_about("unchecked", f"tokens: no tokenizer can be made from a sample: {error}"))
        return Comparison(findings, None)
    fits: list[Fit] = []
    for side, name in enumerate(SIDES):
        fits.append(fit(made[side], [pair[side] for pair in training[1::2]]))
        if len(validation) >= LEAST:
            reasons = worse(fits[side], fit(made[side], [pair[side] for pair in validation]))
            findings += [_about("tokens", f"{name} side: {reason}") for reason in reasons]
    return Comparison(findings, (fits[0].per_character, fits[1].per_character))


def _about(name: str, detail: str, examples: tuple[Example, ...] = ()) -> Finding:
    """A finding that is not about single lines."""
    return Finding(name, "", "", RULES[name].severity, 0, detail, examples)
