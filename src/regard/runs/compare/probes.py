"""How well a model does a probe: strings it never saw, length by length."""

import math
from pathlib import Path

from regard.data import read_lines
from regard.data.probes import ProbeFiles
from regard.errors import DataError
from regard.runs.compare.results import ProbeLength
from regard.runs.translator import Translator

Z = 1.959963984540054  # 97.5 % of a normal distribution lie below
EXTRA = 10  # tokens that a model may say beyond the reference's, so that one that goes on is seen to be wrong


def judge_probe(translator: Translator, folder: Path, beam: int = 1) -> tuple[ProbeLength, ...]:
    """Let a model do the test strings of a probe and count what is right.

    A string is right if exactly the symbols of the reference are said. A symbol of the reference is right if the
    same stands at its place in what is said. A string that the model has no positions for counts as unsaid.

    Args:
        translator: the model, trained on the probe's strings.
        folder: of the probe, as `regard.data.probes.write_probe` made it.
        beam: width of the beam; 1 is greedy search.

    Raises:
        DataError: a file is missing or empty, or the files don't have equally many lines.
    """
    files = ProbeFiles.of(folder)
    paths = files.test_source, files.test_target, files.test_length
    sources, references, numbers = (list(read_lines(path)) for path in paths)
    if not len(sources) == len(references) == len(numbers) or not numbers:
        raise DataError(
            f"{folder}: test.source has {len(sources)}, test.target {len(references)} and test.length {len(numbers)} "
            "lines; expected one of each for every string"
        )
    by_length: dict[int, list[tuple[str, str]]] = {}
    for line, (source, reference, number) in enumerate(zip(sources, references, numbers, strict=True), start=1):
        if not number.strip().isdecimal():
            raise DataError(f"{files.test_length}, line {line}: {number[:40]!r} is no length; expected a number")
        by_length.setdefault(int(number), []).append((source, reference))
    return tuple(_judge(translator, length, by_length[length], beam) for length in sorted(by_length))


def _judge(translator: Translator, length: int, strings: list[tuple[str, str]], beam: int) -> ProbeLength:
    wanted = [reference.split() for _, reference in strings]
    longest = max(map(len, translator.tokenizers.target.encode_batch([reference for _, reference in strings])))
    fit = [i for i, (source, _) in enumerate(strings) if translator.source_length(source) <= translator.max_tokens]
    limit = min(longest + EXTRA, translator.max_tokens)
    found = translator.translate([strings[i][0] for i in fit], beam=beam, max_length=limit)
    said: list[list[str]] = [[] for _ in strings]
    for i, translation in zip(fit, found, strict=True):
        said[i] = translation.text.split()
    exact = sum(a == b for a, b in zip(said, wanted, strict=True))
    right = sum(
        a == b for row, reference in zip(said, wanted, strict=True) for a, b in zip(row, reference, strict=False)
    )
    low, high = wilson(exact, len(strings))
    return ProbeLength(
        length,
        len(strings),
        100 * exact / len(strings),
        100 * right / sum(map(len, wanted)),
        100 * low,
        100 * high,
    )


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, "Probable inference, the law of succession"):

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), p = hits/n
    """
    share, square = hits / trials, Z * Z
    centre = share + square / (2 * trials)
    half = Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    low, high = ((centre + sign * half) / (1 + square / trials) for sign in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding must not leave the share outside
