"""Text that comes in as lines and goes out labelled, in order, however much of it there is."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from regard.runs.labels import Classified, Classifier, TaggedWord, Tagger


@dataclass(frozen=True)
class LabelledLine:
    """What came of one line for a classifier.

    Attributes:
        line: its number, from 1.
        text: the line.
        texts: the text, or the two texts, in it.
        found: its class; None of an empty line, and where there is a problem.
        problem: why it could not be classified, or None.
    """

    line: int
    text: str
    texts: tuple[str, ...]
    found: Classified | None
    problem: str | None = None


@dataclass(frozen=True)
class TaggedLine:
    """What came of one line for a tagger.

    Attributes:
        line: its number, from 1.
        text: the line.
        words: tagged; none of an empty line.
    """

    line: int
    text: str
    words: tuple[TaggedWord, ...]


def classify_chunks(
    classifier: Classifier, chunks: Iterable[Sequence[str]], pairs: bool
) -> Iterator[list[LabelledLine]]:
    """Classify lists of lines; each list is answered before the next is asked for.

    Args:
        classifier: the model.
        chunks: lists of lines.
        pairs: whether a line is two texts with a tab between; one that isn't is answered with a problem.
    """
    number = 0
    for chunk in chunks:
        lines = [_read(number + place, line, pairs) for place, line in enumerate(chunk, start=1)]
        wanted = [one.texts for one in lines if one.texts]
        found = iter(classifier.classify([(texts[0], texts[1]) if pairs else texts[0] for texts in wanted]))
        yield [
            LabelledLine(one.line, one.text, one.texts, next(found) if one.texts else None, one.problem)
            for one in lines
        ]
        number += len(chunk)


def _read(number: int, line: str, pairs: bool) -> LabelledLine:
    """A line with its texts, not classified yet."""
    texts = tuple(part.strip() for part in line.split("\t")) if pairs else (line.strip(),)
    if not line.strip():
        return LabelledLine(number, line, (), None)
    if pairs and (len(texts) != 2 or not all(texts)):
        problem = f"expected two texts with a tab between, got {sum(map(bool, texts))}: {line[:60]!r}"
        return LabelledLine(number, line, (), None, problem)
    return LabelledLine(number, line, texts, None)


def tag_chunks(tagger: Tagger, chunks: Iterable[Sequence[str]], split: bool) -> Iterator[list[TaggedLine]]:
    """Tag lists of lines, each a sentence; each list is answered before the next is asked for.

    Args:
        tagger: the model.
        chunks: lists of lines.
        split: whether words stand between white space, as they are; else they are found in the text.
    """
    number = 0
    for chunk in chunks:
        found = tagger.tag([line.split() for line in chunk]) if split else tagger.tag(chunk)
        yield [
            TaggedLine(place, line, tuple(words))
            for place, (line, words) in enumerate(zip(chunk, found, strict=True), start=number + 1)
        ]
        number += len(chunk)
