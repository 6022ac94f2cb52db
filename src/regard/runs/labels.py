"""Models that label: `Classifier` gives each text, or pair of texts, a class; `Tagger` gives each word a tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from regard.data import split_words
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, CheckpointError
from regard.insight.tokens import Tokens
from regard.models.bert import BERTConfig, SentenceClassifier, TokenTagger, build_classifier, build_tagger
from regard.runs.directory import WEIGHTS, SavedConfig, load_weights_file, read_joint_tokenizer
from regard.runs.label_reading import class_log_probs, frame_of, sentence_rows, tag_log_probs, text_rows
from regard.runs.sides import tokens_of

Pair = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Classified:
    """The class of a text.

    Attributes:
        label: the most probable one.
        probability: of that.
        probabilities: of all, by name.
        cut: whether the text is longer than what the model reads, so that its end was left out.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    cut: bool = False


class TaggedWord(NamedTuple):
    """A word, its most probable tag, and how probable that is."""

    word: str
    tag: str
    probability: float


class Classifier:
    """A trained classifier with its tokenizer.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: of its texts.
        labels: the names of the classes, in the order of the model's outputs.
        longest: the most tokens that are read, special tokens included; the model's positions if not given.
        pairs: whether it was trained on pairs of texts; None if that is not known.

    Raises:
        ArgumentError: the numbers of labels and of the model's outputs differ.
    """

    def __init__(
        self,
        model: SentenceClassifier,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        longest: int | None = None,
        pairs: bool | None = None,
    ) -> None:
        _check_labels(labels, model.output.weight.shape[0])
        self.model, self.tokenizer, self.labels, self.pairs = model, tokenizer, tuple(labels), pairs
        self.longest = min(longest or model.config.max_length, model.config.max_length)
        self.device = model.output.weight.device

    def classify(self, texts: Sequence[str | Pair]) -> list[Classified]:
        """The class of each text or pair, in order; it doesn't depend on the others.

        A text with more tokens than the model was trained on is cut at its end; of a pair, always the longer one.

        Raises:
            ArgumentError: texts where the model was trained on pairs, or pairs where on texts.
        """
        parts = [self._parts(index, text) for index, text in enumerate(_several(texts))]
        rows = text_rows(self.tokenizer, parts, self.longest)
        found = class_log_probs(self.model, rows, frame_of(self.tokenizer)).exp().tolist()
        results = []
        for row, values in zip(rows, found, strict=True):
            best = max(range(len(values)), key=values.__getitem__)
            named = dict(zip(self.labels, values, strict=True))
            results.append(Classified(self.labels[best], values[best], named, row.cut))
        return results

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of what the model reads, for recordings."""
        return tokens_of(self.tokenizer, ids, real)

    def _parts(self, index: int, text: str | Pair) -> tuple[str, ...]:
        parts = (text,) if isinstance(text, str) else tuple(text)
        if len(parts) > 2 or not all(isinstance(part, str) for part in parts):
            raise ArgumentError(f"texts: number {index} is {text!r}: expected a text, or a pair of texts")
        if self.pairs is not None and self.pairs != (len(parts) == 2):
            expected, got = ("pairs of texts", "a text") if self.pairs else ("texts", "a pair")
            raise ArgumentError(f"texts: number {index} is {got}; this model was trained on {expected}")
        if len(parts) > self.model.config.types:
            raise ArgumentError(
                f"texts: number {index} is a pair; this model has one segment type, so it reads no pairs"
            )
        return parts


class Tagger:
    """A trained tagger of words with its tokenizer.

    Args:
        model: in evaluation mode, on its device.
        tokenizer: of its words.
        labels: the tags, in the order of the model's outputs.
        longest: the most tokens that are read together, special tokens included; the model's positions if not given.

    Raises:
        ArgumentError: the numbers of tags and of the model's outputs differ.
    """

    def __init__(
        self, model: TokenTagger, tokenizer: Tokenizer, labels: Sequence[str], longest: int | None = None
    ) -> None:
        _check_labels(labels, model.output.weight.shape[0])
        self.model, self.tokenizer, self.labels = model, tokenizer, tuple(labels)
        self.longest = min(longest or model.config.max_length, model.config.max_length)
        self.device = model.output.weight.device

    def tag(self, sentences: Sequence[str | Sequence[str]]) -> list[list[TaggedWord]]:
        """The tag of each word of each sentence, in order; it doesn't depend on the other sentences.

        A sentence with more tokens than the model was trained on is read in several parts, cut between words.

        Args:
            sentences: lists of words, or texts, whose words are those of `regard.data.split_words`.
        """
        words = [_words(index, sentence) for index, sentence in enumerate(_several(sentences))]
        rows = sentence_rows(self.tokenizer, words, self.longest)
        flat = tag_log_probs(self.model, [row for several in rows for row in several], frame_of(self.tokenizer))
        following = iter(flat)
        results = []
        for names, several in zip(words, rows, strict=True):
            found = [next(following).exp().max(-1) for _ in several]
            chosen = [
                (self.labels[tag], value)
                for one in found
                for tag, value in zip(one.indices.tolist(), one.values.tolist(), strict=True)
            ]
            results.append([TaggedWord(word, *pair) for word, pair in zip(names, chosen, strict=True)])
        return results

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of what the model reads, for recordings."""
        return tokens_of(self.tokenizer, ids, real)


def open_classification(directory: Path, saved: SavedConfig, device: torch.device) -> Classifier:
    """The classifier of a model directory.

    Raises:
        CheckpointError: something is missing, damaged or not understood; the message names the file.
    """
    config, labels = saved.config({"bert": BERTConfig}), _labels(saved)
    model = build_classifier(config, len(labels))
    load_weights_file(directory / WEIGHTS, model)
    length, pairs = saved.content.get("length"), saved.content.get("pairs")
    return Classifier(model.to(device).eval(), read_joint_tokenizer(directory), labels, length, pairs)


def open_tagging(directory: Path, saved: SavedConfig, device: torch.device) -> Tagger:
    """The tagger of a model directory.

    Raises:
        CheckpointError: something is missing, damaged or not understood; the message names the file.
    """
    config, labels = saved.config({"bert": BERTConfig}), _labels(saved)
    model = build_tagger(config, len(labels))
    load_weights_file(directory / WEIGHTS, model)
    return Tagger(model.to(device).eval(), read_joint_tokenizer(directory), labels, saved.content.get("length"))


def _labels(saved: SavedConfig) -> list[str]:
    labels = saved.content.get("labels")
    if not isinstance(labels, list) or len(labels) < 1 or not all(isinstance(name, str) for name in labels):
        raise CheckpointError(f"{saved.path}: labels is {labels!r}: expected a list of names")
    return labels


def _check_labels(labels: Sequence[str], outputs: int) -> None:
    if len(labels) != outputs:
        raise ArgumentError(f"labels: got {len(labels)}, expected one for each of the model's {outputs} outputs")


def _several(items: Sequence[T]) -> Sequence[T]:
    if isinstance(items, str):
        raise ArgumentError(f"expected a list of texts, got one text: {items[:40]!r}")
    return items


def _words(index: int, sentence: str | Sequence[str]) -> list[str]:
    if isinstance(sentence, str):
        return [sentence[start:stop] for start, stop in split_words(sentence)]
    words = list(sentence)
    if not all(isinstance(word, str) for word in words):
        raise ArgumentError(f"sentences: number {index} is {sentence!r}: expected a text, or a list of words")
    return words
