"""The same sentences in every model's translation, with what each looked at."""

from collections.abc import Sequence

from regard.data import split_words
from regard.errors import UnsupportedError
from regard.runs.compare.results import Said, SentenceResult
from regard.runs.scoring import pair_problem
from regard.runs.translator import Translator

EXTREMES = 0.03  # of the sentences, the shortest and the longest each, that examples are not taken from
DIGITS = 4  # of a weight


def choose_sentences(sources: Sequence[str], count: int) -> list[int]:
    """Sentences to show: indices of `count` sources (or all there are), from short to long, spread evenly over them.

    Empty sources, repeated ones and the shortest and longest three per cent are left out. Lengths are in words; of
    equally long ones the earlier comes first. The same sources give the same choice.
    """
    first: dict[str, int] = {}
    for index, source in enumerate(sources):
        if source.strip():
            first.setdefault(source.strip(), index)
    order = sorted(first.values(), key=lambda index: (len(split_words(sources[index])), index))
    cut = min(int(EXTREMES * len(order)), max(0, (len(order) - count) // 2))
    order = order[cut : len(order) - cut]
    if count >= len(order):
        return order
    return [order[round((i + 0.5) * len(order) / count - 0.5)] for i in range(count)]


def side_by_side(
    translators: Sequence[tuple[str, Translator]], sources: Sequence[str], references: Sequence[str]
) -> tuple[SentenceResult, ...]:
    """Translate sentences with every model, each with its own default beam.

    Args:
        translators: labels and models; each tells its alignment of source and **its own** translation, unless it has
            no attention or the translation is empty.
        sources, references: one reference for each source. A source that a model has no positions for counts with an
            empty translation.
    """
    said = [_said(label, translator, sources) for label, translator in translators]
    return tuple(
        SentenceResult(source, _words(source), reference, tuple(row[i] for row in said))
        for i, (source, reference) in enumerate(zip(sources, references, strict=True))
    )


def _said(label: str, translator: Translator, sources: Sequence[str]) -> list[Said]:
    texts = [""] * len(sources)
    fit = [i for i, source in enumerate(sources) if translator.source_length(source) <= translator.max_tokens]
    for i, found in zip(fit, translator.translate([sources[i] for i in fit]), strict=True):
        texts[i] = found.text
    return [
        Said(label, text, _words(text), _weights(translator, source, text))
        for source, text in zip(sources, texts, strict=True)
    ]


def _weights(translator: Translator, source: str, text: str) -> tuple[tuple[float, ...], ...] | None:
    if not text.strip() or pair_problem(translator, source, text) is not None:
        return None
    try:
        weights = translator.attention(source, text).alignment().weights  # (target words, source words)
    except UnsupportedError:
        return None
    return tuple(tuple(round(float(weight), DIGITS) for weight in row) for row in weights)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text[start:stop] for start, stop in split_words(text))
