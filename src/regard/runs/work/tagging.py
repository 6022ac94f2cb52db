"""Tagging as work for a training run: tagged sentences in memory, BERT with a head, accuracy and F1."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from regard.data.labelled import TaggedSentences, read_tagged
from regard.models.bert import TokenTagger, build_tagger
from regard.runs.label_origin import Begun, begin
from regard.runs.label_reading import frame_of, sentence_rows, tag_log_probs
from regard.runs.label_recipes import TaggingDataRecipe, TaggingRecipe
from regard.runs.work.contract import Place, Validator
from regard.runs.work.label_parts import LabelWork, class_names, class_numbers, fingerprint, hold_out, too_long
from regard.tasks.framing import Frame
from regard.tasks.label_metrics import entity_report, label_report, marks_entities
from regard.tasks.tagging import TaggingBatch, TaggingObjective, WordRow, collate
from regard.training import Indices, Problem


class TaggedRows:
    """Sentences as rows for the model, with the numbers of their words' tags.

    Args:
        sentences: those.
        rows: for each sentence its rows.
        names: of the tags.
        source: where the names are from.

    Attributes:
        rows: of all sentences.
        numbers: for each row the numbers of its words' tags.
        counts: for each sentence how many rows it has.

    Raises:
        DataError: a tag is none of them.
    """

    def __init__(self, sentences: TaggedSentences, rows: list[list[WordRow]], names: list[str], source: str) -> None:
        self.rows = [row for several in rows for row in several]
        self.counts = [len(several) for several in rows]
        self.numbers: list[list[int]] = []
        for index, (tags, several) in enumerate(zip(sentences.tags, rows, strict=True)):
            numbers = iter(class_numbers(tags, names, partial(sentences.where, index), "tag", source))
            self.numbers += [[next(numbers) for _ in row.firsts] for row in several]

    @property
    def words(self) -> int:
        """How many words there are."""
        return sum(map(len, self.numbers))

    def sentences_of(self, tags: list[list[str]]) -> list[list[str]]:
        """Tags of the rows as tags of the sentences."""
        following = iter(tags)
        return [[tag for _ in range(count) for tag in next(following)] for count in self.counts]


class TaggingValidator(Validator):
    """Judges a tagger on tagged sentences: loss (of a word, nats, unsmoothed), accuracy, and f1: that of all entities
    where tags mark entities, else the mean of the tags' F1s; both from 0 to 1.

    Args:
        model: see `Validator`.
        part: the sentences.
        names: of the tags.
        frame: the special tokens.
    """

    def __init__(self, model: TokenTagger, part: TaggedRows, names: tuple[str, ...], frame: Frame) -> None:
        super().__init__(model)
        self._judged = model
        self.part, self.names, self.frame = part, names, frame
        self._entities = marks_entities(names)

    def __call__(self, step: int) -> dict[str, float]:
        """See `Validator`."""
        self.model.eval()
        found = tag_log_probs(self._judged, self.part.rows, self.frame)
        right = [
            values.double().gather(1, torch.tensor(numbers)[:, None])
            for values, numbers in zip(found, self.part.numbers, strict=True)
        ]
        said = self._named([values.argmax(1).tolist() for values in found])
        gold = self._named(self.part.numbers)
        report = label_report([tag for row in gold for tag in row], [tag for row in said for tag in row])
        f1 = entity_report(gold, said).total.f1 if self._entities else report.macro_f1
        return {"loss": -float(torch.cat(right).mean()), "accuracy": report.accuracy, "f1": f1}

    def seconds(self) -> float:
        """See `Validator.seconds`."""
        started = time.perf_counter()
        self(0)
        return time.perf_counter() - started

    def _named(self, numbers: list[list[int]]) -> list[list[str]]:
        return self.part.sentences_of([[self.names[number] for number in row] for row in numbers])


class TaggingWork(LabelWork[TaggingBatch]):
    """A tagger to be trained.

    Args:
        recipe: of the run.
        begun: tokenizer and sizes.
        train, valid: the data.
        names: of the tags.
        device: where batches go.

    Raises:
        DataError: a tag is none of the names.
    """

    def __init__(
        self,
        recipe: TaggingRecipe,
        begun: Begun,
        train: TaggedSentences,
        valid: TaggedSentences,
        names: list[str],
        device: torch.device,
    ) -> None:
        data, self.device = recipe.data, device
        source = "data.labels" if data.labels is not None else train.name
        self._train, self._valid = (
            TaggedRows(part, sentence_rows(begun.tokenizer, part.words, data.length), names, source)
            for part in (train, valid)
        )
        self.frame = frame_of(begun.tokenizer)
        super().__init__(
            "tagging",
            begun,
            recipe.training,
            names,
            {"length": data.length},
            [len(one.row.ids) for one in self._train.rows],
        )
        self.facts = {
            "train_sentences": len(train),
            "train_words": self._train.words,
            "valid_sentences": len(valid),
            "valid_words": self._valid.words,
            "tags": len(names),
            "sha256": fingerprint([names, train.words, train.tags, valid.words, valid.tags]),
        }
        self.notes = _notes(data, self._train, self._valid)

    def build(self) -> nn.Module:
        """See `Work.build`."""
        return build_tagger(self.config, len(self.names))

    def objective(self, model: nn.Module) -> nn.Module:
        """See `Work.objective`."""
        return TaggingObjective(cast(TokenTagger, model), self.training.label_smoothing)

    def problem(self, loss: Callable[[TaggingBatch], Tensor]) -> Problem[TaggingBatch]:
        """See `Work.problem`."""
        return Problem(self.batches.epoch, self._collate, lambda batch: len(batch.tags), loss)

    def target_tokens(self, indices: Indices) -> int:
        """See `Work.target_tokens`: one tag a word."""
        return sum(len(self._train.numbers[int(i)]) for i in indices)

    def validator(self, model: nn.Module) -> TaggingValidator:
        """See `Work.validator`."""
        return TaggingValidator(cast(TokenTagger, model), self._valid, self.names, self.frame)

    def real(self, batch: TaggingBatch) -> Mapping[str, Tensor]:
        """See `Work.real`."""
        return {"text": batch.texts.real()}

    def sizes(self) -> dict[str, str]:
        """See `Work.sizes`."""
        train, valid = (f"{len(part.counts):,} sentences ({part.words:,} words)" for part in (self._train, self._valid))
        return {"training part": train, "validation part": valid, **self.shared_sizes()}

    def next_commands(self, directory: Path) -> list[str]:
        """See `Work.next_commands`."""
        return [f"regard label {directory} < input > output", f"regard evaluate {directory} --labelled FILE"]

    def _collate(self, indices: Indices, epoch: int) -> TaggingBatch:
        chosen = [int(i) for i in indices]
        rows, numbers = self._train.rows, self._train.numbers
        return collate([rows[i] for i in chosen], [numbers[i] for i in chosen], self.frame, self.device)


def open_tagging(recipe: TaggingRecipe, place: Place) -> TaggingWork:
    """Read and tokenise the data of a recipe.

    Raises:
        RecipeError: the recipe doesn't fit together.
        DataError: the data cannot be used; the message names file and line.
        CheckpointError: `training.init_from` cannot be used.
    """
    data = recipe.data
    train = _read(data, data.train)
    if data.valid is not None:
        valid = _read(data, data.valid)
    else:
        kept, held = hold_out(len(train), data.held_out, data.seed, train.name)
        train, valid = train.subset(kept), train.subset(held)
    names = class_names((tag for tags in train.tags for tag in tags), data.labels, train.name, "tag")
    begun = begin(recipe, place, lambda: (" ".join(words) for words in train.words))
    return TaggingWork(recipe, begun, train, valid, names, place.device)


def _read(data: TaggingDataRecipe, name: str) -> TaggedSentences:
    return read_tagged(Path(data.folder or ".") / name, data.word, data.tag)


def _notes(data: TaggingDataRecipe, train: TaggedRows, valid: TaggedRows) -> list[str]:
    notes = []
    for what, part in (("training", train), ("validation", valid)):
        if several := sum(count > 1 for count in part.counts):
            notes.append(too_long(several, f"{what} sentences are read in several parts", data.length))
        if cut := sum(one.row.cut for one in part.rows):
            notes.append(too_long(cut, f"parts of {what} sentences have a word that is cut", data.length))
    if data.valid is None:
        notes.append(f"no validation part is given: {len(valid.counts):,} training sentences are held out for it")
    return notes
