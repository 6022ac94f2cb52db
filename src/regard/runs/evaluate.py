"""`evaluate`: how good a translator is on a test set: text, probabilities, word alignment, speed."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU

from regard.data import display_name, read_lines, split_words
from regard.errors import ArgumentError, DataError, MissingExtraError
from regard.insight import AlignmentScore, Link, links, parse_gold, score_links
from regard.runs.scoring import pair_problem
from regard.runs.streaming import CHUNK
from regard.runs.translator import Translator
from regard.tasks.metrics import BOOTSTRAP, Figure, TextQuality, bleu_tokenization, text_quality

EDGES = (5, 10, 15, 20, 30, 50)  # the most words of a source in each bucket of lengths; the last one has no end
WITHOUT_CASE = ("zh", "char", "ja-mecab", "ko-mecab")  # tokenisations of scripts that have no case

Gold = tuple[Collection[Link], Collection[Link]]
"""Sure links of a pair, and possible ones, which include them."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many sentences are done, and of how many."""


@dataclass(frozen=True)
class LengthBucket:
    """The sentences whose source has `shortest` to `longest` words (None: no limit), and the BLEU of these alone.

    `interval` is the half-width of its 95 % confidence interval; None for a single sentence.
    """

    shortest: int
    longest: int | None
    sentences: int
    bleu: float
    interval: float | None


@dataclass(frozen=True)
class CategoryQuality:
    """The sentences of a category, and how many per cent of their translations equal the reference."""

    sentences: int
    exact: float


@dataclass(frozen=True)
class Likelihood:
    """Probability of the references, teacher-forced.

    Attributes:
        loss: mean negative natural-log probability of a target token, `<eos>` included.
        perplexity: e to the power of that; of tokens, so it compares models with the same tokenizer only.
        tokens: how many target tokens there are.
    """

    loss: float
    perplexity: float
    tokens: int


@dataclass(frozen=True)
class Speed:
    """Time that translating took."""

    seconds: float
    sentences_per_second: float
    tokens_per_second: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found; all scores of text are in per cent.

    Attributes:
        sentences: how many pairs were judged.
        quality: BLEU and chrF with signatures and intervals, exact matches.
        bleu_lowercase: BLEU without regard to case; None where the tokenisation is that of a script without case.
        bleu_moses: BLEU of lowercased, Moses-tokenised text, where its language was given.
        likelihood: of the references; None if no pair fits into the model.
        by_length: BLEU by words of the source.
        alignment: of the references' words, against gold links where they were given.
        categories: by name, where they were given.
        speed: of translating.
        notes: what a reader has to know, for example sentences that are too long.
        translations: of every source.
    """

    sentences: int
    quality: TextQuality
    bleu_lowercase: Figure | None
    bleu_moses: Figure | None
    likelihood: Likelihood | None
    by_length: tuple[LengthBucket, ...]
    alignment: AlignmentScore | None
    categories: dict[str, CategoryQuality]
    speed: Speed
    notes: tuple[str, ...]
    translations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the translations as plain values for `json.dump`; the exact matches stand beside BLEU."""
        content = asdict(self)
        del content["translations"]
        quality = content.pop("quality")
        head: dict[str, Any] = {"sentences": content.pop("sentences"), **quality}
        return head | content


def evaluate(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    *,
    beam: int | None = None,
    tokenize: str = "auto",
    moses: str | None = None,
    gold: Sequence[Gold] | None = None,
    categories: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Translate a test set and judge the translations and the model.

    A source that is too long for the model counts with an empty translation; a pair of which one side is too long is
    left out of the likelihood and the alignment.

    Args:
        translator: the model.
        sources, references: one reference for each source.
        beam: width of the beam; the model's default if None.
        tokenize: sacreBLEU's tokenisation, or "auto": by the script of the references.
        moses: a language code: also give the BLEU of lowercased, Moses-tokenised text.
        gold: gold links of each pair; the alignment judged is that of the cross-attention over source and
            **reference**, by the heaviest source word of each target word.
        categories: a name for each pair.
        progress: is told how far it is.

    Raises:
        ArgumentError: unequal numbers, none at all, an unknown tokenisation, a gold link outside its sentences.
        MissingExtraError: Moses tokenisation without the extra that brings it.
        UnsupportedError: gold links for a model without attention.
    """
    if gold is not None:
        translator.check_attends()
    _check_numbers(len(sources), references=references, gold=gold, categories=categories)
    for index, (_, possible) in enumerate(gold or ()):
        outside = outside_words(sources[index], references[index], possible)
        if outside is not None:
            raise ArgumentError(f"gold: pair {index + 1}: {outside}")
    if tokenize != "auto" and tokenize not in BLEU.TOKENIZERS:
        raise ArgumentError(f"tokenize: no tokenisation {tokenize!r}: there are auto, {', '.join(BLEU.TOKENIZERS)}")
    if tokenize != "auto":
        try:
            BLEU(tokenize=tokenize)
        except (ImportError, RuntimeError, OSError) as error:
            raise MissingExtraError(f"tokenize {tokenize}: {' '.join(str(error).split())}") from error
    if moses is not None:
        _moses_tokenizer(moses)  # what is missing is said before the work
    report = progress or (lambda what, done, of: None)
    problems = [pair_problem(translator, *pair) for pair in zip(sources, references, strict=True)]

    began = time.perf_counter()
    translations, tokens = _translate(translator, sources, beam, report)
    seconds = time.perf_counter() - began
    chosen = bleu_tokenization(references) if tokenize == "auto" else tokenize
    likelihood = _likelihood(translator, sources, references, problems, report)
    return Evaluation(
        sentences=len(sources),
        quality=text_quality(translations, references, tokenize=chosen, intervals=True),
        bleu_lowercase=None if chosen in WITHOUT_CASE else _bleu(translations, references, chosen, lowercase=True),
        bleu_moses=None if moses is None else _moses_bleu(translations, references, moses),
        likelihood=likelihood,
        by_length=_by_length(sources, translations, references, chosen),
        alignment=None if gold is None else _alignment(translator, sources, references, problems, gold, report),
        categories={} if categories is None else _by_category(categories, translations, references),
        speed=Speed(seconds, len(sources) / seconds, tokens / seconds),
        notes=tuple(f"pair {index + 1}: {problem}" for index, problem in enumerate(problems) if problem),
        translations=tuple(translations),
    )


def outside_words(source: str, target: str, gold: Collection[Link]) -> str | None:
    """What is wrong with gold links that name a word the pair doesn't have; None if all is well."""
    sizes = len(split_words(source)), len(split_words(target))
    outside = [f"{i}-{j}" for i, j in sorted(gold) if i >= sizes[0] or j >= sizes[1]]
    return f"link {outside[0]} in a pair of {sizes[0]} source and {sizes[1]} target words" if outside else None


def read_side(path: Path, pairs: int, whole: bool = True) -> list[str]:
    """Lines that belong to pairs, one each; if these are not the whole test set, there may be more.

    Raises:
        DataError: their numbers differ.
    """
    lines = [line.strip() for line in read_lines(path)]
    if len(lines) < pairs or (whole and len(lines) > pairs):
        raise DataError(f"{display_name(path)} has {len(lines)} lines for {pairs} pairs: expected one for each")
    return lines[:pairs]


def read_gold(path: Path, pairs: Sequence[tuple[str, str]], whole: bool = True) -> list[Gold]:
    """Gold links of pairs, a line for each, as `read_side` reads them.

    Raises:
        DataError: other lines than pairs, a line that cannot be read, or a link outside its pair.
    """
    gold: list[Gold] = []
    for number, (line, (source, target)) in enumerate(zip(read_side(path, len(pairs), whole), pairs, strict=True), 1):
        where = f"{display_name(path)}, line {number}"
        found = parse_gold(line, where)
        outside = outside_words(source, target, found[1])
        if outside is not None:
            raise DataError(f"{where}: {outside}")
        gold.append(found)
    return gold


def _check_numbers(expected: int, **given: Sequence[Any] | None) -> None:
    if not expected:
        raise ArgumentError("sources: there is none")
    for name, values in given.items():
        if values is not None and len(values) != expected:
            raise ArgumentError(f"{name}: got {len(values)} for {expected} sources, expected one for each")


def _translate(
    translator: Translator, sources: Sequence[str], beam: int | None, report: Progress
) -> tuple[list[str], int]:
    """The translation of each source, empty where it is too long, and the number of tokens generated."""
    translations = ["" for _ in sources]
    tokens = 0
    fit = [i for i, text in enumerate(sources) if translator.source_length(text) <= translator.max_tokens]
    for chunk in _chunks(fit, "translating", report):
        for i, found in zip(chunk, translator.translate([sources[i] for i in chunk], beam=beam), strict=True):
            translations[i] = found.text
            tokens += len(found.token_log_probs)
    return translations, tokens


def _likelihood(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    problems: Sequence[str | None],
    report: Progress,
) -> Likelihood | None:
    fit = [i for i, problem in enumerate(problems) if problem is None]
    total, count = 0.0, 0
    for chunk in _chunks(fit, "scoring the references", report):
        scores = translator.score([sources[i] for i in chunk], [references[i] for i in chunk])
        total += math.fsum(value for values in scores for value in values)
        count += sum(map(len, scores))
    if not count:
        return None
    loss = -total / count
    return Likelihood(loss, math.exp(min(loss, 700.0)), count)


def _by_length(
    sources: Sequence[str], translations: Sequence[str], references: Sequence[str], tokenize: str
) -> tuple[LengthBucket, ...]:
    words = [len(split_words(source)) for source in sources]
    buckets = []
    for shortest, longest in zip((1, *(edge + 1 for edge in EDGES)), (*EDGES, None), strict=True):
        rows = [
            i for i, count in enumerate(words) if max(count, 1) >= shortest and (longest is None or count <= longest)
        ]
        if rows:
            said, wanted = ([side[i] for i in rows] for side in (translations, references))
            bleu = _bleu(said, wanted, tokenize, lowercase=False)
            buckets.append(LengthBucket(shortest, longest, len(rows), bleu.score, bleu.interval))
    return tuple(buckets)


def _by_category(
    categories: Sequence[str], translations: Sequence[str], references: Sequence[str]
) -> dict[str, CategoryQuality]:
    hits: dict[str, list[bool]] = {}
    for name, said, wanted in zip(categories, translations, references, strict=True):
        hits.setdefault(name, []).append(said.strip() == wanted.strip())
    return {name: CategoryQuality(len(hits[name]), 100 * sum(hits[name]) / len(hits[name])) for name in sorted(hits)}


def _alignment(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    problems: Sequence[str | None],
    gold: Sequence[Gold],
    report: Progress,
) -> AlignmentScore:
    fit = [i for i, problem in enumerate(problems) if problem is None and sources[i].strip() and references[i].strip()]
    predicted = [
        links(translator.attention(sources[i], references[i]).alignment())
        for chunk in _chunks(fit, "aligning", report, size=50)
        for i in chunk
    ]
    return score_links(predicted, [gold[i][0] for i in fit], [gold[i][1] for i in fit])


def _bleu(translations: Sequence[str], references: Sequence[str], tokenize: str, lowercase: bool) -> Figure:
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
    result = metric.corpus_score(list(translations), [list(references)], n_bootstrap=BOOTSTRAP)
    interval = float(result._ci) if len(references) > 1 else None
    return Figure(float(result.score), interval, str(metric.get_signature()))


def _moses_bleu(translations: Sequence[str], references: Sequence[str], language: str) -> Figure:
    tokenize = _moses_tokenizer(language)
    said, wanted = ([tokenize(text) for text in side] for side in (translations, references))
    figure = _bleu(said, wanted, "none", lowercase=True)
    return replace(figure, signature=f"{figure.signature}|moses:{language}|sacremoses:{version('sacremoses')}")


def _moses_tokenizer(language: str) -> Callable[[str], str]:
    """What Moses' scripts make of a line: normalize-punctuation.perl, lowercase.perl, tokenizer.perl without escapes.

    BLEU of such text without further tokenisation is what multi-bleu.perl gives.
    """
    try:
        from sacremoses import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            MosesPunctNormalizer,
            MosesTokenizer,
        )
    except ImportError as error:
        raise MissingExtraError("Moses tokenisation needs sacremoses: pip install 'regard[moses]'") from error
    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)

    def process(text: str) -> str:
        tokens: str = tokenizer.tokenize(normalizer.normalize(text).lower(), return_str=True, escape=False)
        return tokens

    return process


def _chunks(indices: Sequence[int], what: str, report: Progress, size: int = CHUNK) -> Iterator[list[int]]:
    """The indices in lists of `size`, with a report before each and at the end."""
    rest, done = iter(indices), 0
    while chunk := list(islice(rest, size)):
        report(what, done, len(indices))
        yield chunk
        done += len(chunk)
    report(what, done, len(indices))
