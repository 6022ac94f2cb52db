"""A model at a point of its training, judged on the test part as a run that ended there would have been."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor

from regard.data import open_reader
from regard.data.pairs import pairs_of
from regard.errors import CheckpointError, DataError
from regard.runs.build import torch_device
from regard.runs.compare.collect import History
from regard.runs.compare.group import Reporter
from regard.runs.compare.members import Member
from regard.runs.compare.remembered import remembered
from regard.runs.compare.results import Estimate, Judged, LengthQuality
from regard.runs.compare.settings import CompareRecipe
from regard.runs.corpus import Corpus
from regard.runs.directory import load_model
from regard.runs.evaluate import Evaluation, Gold, evaluate, read_gold
from regard.runs.recipe import DataRecipe
from regard.runs.snapshots import snapshot_path
from regard.runs.translator import Translator
from regard.runs.validation import TranslationValidator
from regard.tasks.metrics import Figure
from regard.training import Metric, load_weights_into, mean_weights, unpack_weights

JUDGED = TypeAdapter(Judged)


@dataclass(frozen=True)
class TestPart:
    """What all models are judged on.

    Attributes:
        name: its files, as the recipe calls them.
        sources, references: the texts.
        gold: gold links of each pair, or None.
        own: whether it is a part of its own; else it is the validation part.
    """

    __test__ = False  # for pytest

    name: str
    sources: tuple[str, ...]
    references: tuple[str, ...]
    gold: tuple[Gold, ...] | None
    own: bool

    def digest(self) -> str:
        """What tells one test part from another."""
        gold = None if self.gold is None else [[sorted(links) for links in pair] for pair in self.gold]
        content = json.dumps([self.sources, self.references, gold], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def read_test_part(compare: CompareRecipe, data: DataRecipe) -> TestPart | None:
    """The test part that a comparison names; None if it names none.

    Raises:
        DataError: a file cannot be used; the message names file and line.
        RecipeError, MissingExtraError: a table cannot be read as asked for.
    """
    if compare.test_source is None and compare.test_pairs is None:
        return None
    folder = Path(data.folder or ".")
    reader = open_reader(
        folder,
        source=compare.test_source,
        target=compare.test_target,
        pairs=compare.test_pairs,
        columns=compare.test_columns or data.columns,
    )
    pairs = [(pair.source, pair.target) for pair in pairs_of(reader)]
    if not pairs:
        raise DataError(f"{reader.name}: there is no pair in it")
    sources, references = zip(*pairs, strict=True)
    gold = None if compare.alignments is None else tuple(read_gold(folder / compare.alignments, pairs))
    name = compare.test_pairs or f"{compare.test_source}, {compare.test_target}"
    return TestPart(name, sources, references, gold, own=True)


def validation_as_test(corpus: Corpus) -> TestPart:
    """The validation part, where there is no test part."""
    return TestPart(
        "the validation part", tuple(corpus.valid.source_texts), tuple(corpus.valid.target_texts), None, own=False
    )


class Judge:
    """Judges runs of a comparison on one test part.

    Args:
        part: the test part.
        corpus: the data of all runs, whose validation part chooses the weights.
        report: told what is being done.
    """

    def __init__(self, part: TestPart, corpus: Corpus, report: Reporter) -> None:
        self.part, self.corpus, self.report = part, corpus, report
        self._digest = part.digest()

    def judge(self, member: Member, history: History, step: int) -> Judged:
        """Judge a run at a step that it was validated at, or read how it was judged before.

        Raises:
            DataError: no pair of the test part fits into the model.
            CheckpointError: weights cannot be read.
        """
        decoding = member.recipe.decoding.model_dump()
        key = {"step": step, "test": self._digest, "decoding": decoding, "average": member.recipe.training.average}

        def find() -> Judged:
            self.report.say(f"judging {member.label} (seed {member.seed}) after {step:,} steps on {self.part.name}")
            chosen = self.choose(member, history, step)
            translator = self.translator(member, chosen)
            with self.report.counting() as show:
                found = evaluate(
                    translator,
                    self.part.sources,
                    self.part.references,
                    gold=self.part.gold if translator.attends else None,
                    progress=show,
                )
            return _judged(found, history, step, self.part.name, chosen)

        return remembered(member.directory / f"judged-{step:08}.json", JUDGED, key, find)

    def choose(self, member: Member, history: History, step: int) -> tuple[int, ...]:
        """The steps whose weights, of several the mean, a run of `step` steps would have left: the best so far, or the
        last `training.average` ones, whichever validates better.

        Raises:
            CheckpointError: weights are missing or cannot be read.
        """
        training = member.recipe.training
        metric = Metric("loss", "min") if training.metric == "loss" else Metric("bleu", "max")
        steps = [one for one in sorted(history.validations) if one <= step]
        best, reached = steps[0], None
        for one in steps:
            if metric.improves(history.validations[one][metric.name], reached):
                best, reached = one, history.validations[one][metric.name]
        last = tuple(steps[-training.average :])
        if len(last) > 1:
            mean = self.translator(member, last).model
            if metric.improves(self._validate(mean, member)[metric.name], reached):
                return last
        return (best,)

    def translator(self, member: Member, steps: Sequence[int]) -> Translator:
        """A run's model with the weights of a validation, or the mean of several.

        Raises:
            CheckpointError: weights are missing or cannot be read.
        """
        saved = load_model(member.directory, torch_device(member.recipe.training.device))
        paths = [snapshot_path(member.directory, step) for step in steps]
        weights = _read_weights(paths[0])
        if len(paths) > 1:
            weights = mean_weights(map(_read_weights, paths), [1.0] * len(paths))
        load_weights_into(saved.model, weights, paths[0])
        return Translator(saved.model.eval(), saved.tokenizers, member.recipe.decoding.model_dump())

    def _validate(self, model: Any, member: Member) -> Mapping[str, float]:
        training = member.recipe.training
        count = training.validation_sentences if training.metric == "bleu" else 0
        quick = member.recipe.model_copy(
            update={"training": training.model_copy(update={"validation_sentences": count})}
        )
        return TranslationValidator(model, self.corpus.tokenizers, self.corpus.valid, quick)(0)


def _judged(found: Evaluation, history: History, step: int, name: str, chosen: tuple[int, ...]) -> Judged:
    if found.likelihood is None:
        raise DataError(f"{name}: every pair is too long for the model")
    return Judged(
        step=step,
        tokens=history.tokens_at(step),
        seconds=history.seconds_at(step),
        loss=found.likelihood.loss,
        bleu=_estimate(found.quality.bleu),
        chrf=_estimate(found.quality.chrf),
        exact=found.quality.exact,
        by_length=tuple(
            LengthQuality(one.shortest, one.longest, one.sentences, _around(one.bleu, one.interval))
            for one in found.by_length
        ),
        alignment_error=None if found.alignment is None else 100 * found.alignment.error_rate,
        sentences_per_second=found.speed.sentences_per_second,
        signature=found.quality.bleu.signature,
        weights_of=chosen,
    )


def _estimate(figure: Figure) -> Estimate:
    return _around(figure.score, figure.interval)


def _around(value: float, half: float | None) -> Estimate:
    """A figure in per cent with its interval, as far as there are per cents."""
    if half is None:
        return Estimate(value)
    return Estimate(value, max(0.0, value - half), min(100.0, value + half))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return unpack_weights(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: to judge or look into a run at a step, the weights of its validations are needed. "
            f"Remove {path.parent.parent} to train it again"
        ) from None
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
