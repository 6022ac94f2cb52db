"""This package's models of one text as something to record: language models, and BERTs with any head."""

from collections.abc import Sequence

import torch

from regard.attention import Padding
from regard.data import split_words
from regard.errors import ArgumentError
from regard.recording import Recording, record
from regard.runs.label_reading import frame_of, sentence_rows, text_rows
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.masked_model import MaskedModel
from regard.runs.subjects import SubjectKind, check_lengths, check_texts
from regard.tasks.framing import FramedRow, collate_rows
from regard.tasks.translation import pad_rows


class LanguageModelSubject:
    """A decoder-only model made by `regard train`.

    Args:
        runner: it with its tokenizer.
    """

    kind: SubjectKind = "decoder"

    def __init__(self, runner: LanguageModel) -> None:
        self.runner = runner

    @property
    def name(self) -> str:
        """See `Subject.name`."""
        return type(self.runner.model).__name__

    def record(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        where: str = "*",
        heads: Sequence[int] | None = None,
        generate: int | None = None,
    ) -> Recording:
        """See `Subject.record`; what it writes is what is most probable at each step."""
        _check_asked(self.name, texts, targets)
        runner, chosen = self.runner, None if heads is None else [*heads]
        recorder = record(runner, where, heads=chosen, keep=1 if generate is None else "generation")
        first = [] if runner.begin is None else [runner.begin]
        rows = [[*first, *ids] for ids in runner.tokenizer.encode_texts(texts)]
        lengths = [len(row) for row in rows]
        check_lengths("text", lengths, runner.max_tokens)
        if generate is None:
            tokens = pad_rows(rows, runner.tokenizer.pad_id, runner.device)
            with torch.no_grad(), recorder as recording:
                runner.model(tokens, Padding(torch.tensor(lengths, device=runner.device)))
            return recording
        self._check_room(max(lengths), generate)
        with recorder as recording:
            runner.generate(texts, max_tokens=generate, beam=1)
        if recording and next(iter(recording.values())).shape[0] != len(texts):
            raise ArgumentError(f"--generate: {len(texts)} texts are too many to go on together; give fewer")
        return recording

    def _check_room(self, longest: int, generate: int) -> None:
        """Raise `ArgumentError` unless there are positions for all that is written."""
        if generate < 1:
            raise ArgumentError(f"--generate is {generate}: expected 1 or more")
        room = self.runner.max_tokens - longest
        if generate > room + 1:  # what is written last is never read
            raise ArgumentError(
                f"--generate is {generate}: after a text of {longest} tokens the model has positions for {room + 1} "
                "more; beyond them it reads a part of the text again, which makes no single map"
            )


class EncoderSubject:
    """A BERT made by `regard train`: a masked language model, a classifier, or a tagger.

    Args:
        runner: it with its tokenizer.
    """

    kind: SubjectKind = "encoder"

    def __init__(self, runner: MaskedModel | Classifier | Tagger) -> None:
        self.runner = runner

    @property
    def name(self) -> str:
        """See `Subject.name`."""
        return type(self.runner.model).__name__

    def record(
        self,
        texts: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        where: str = "*",
        heads: Sequence[int] | None = None,
        generate: int | None = None,
    ) -> Recording:
        """See `Subject.record`."""
        _check_asked(self.name, texts, targets)
        if generate is not None:
            raise ArgumentError(f"--generate: {self.name} can't generate, it only reads")
        runner = self.runner
        recorder = record(runner, where, heads=None if heads is None else [*heads])
        framed = collate_rows(self._rows(texts), frame_of(runner.tokenizer), runner.device)
        with torch.no_grad(), recorder as recording:
            runner.model.encoder(framed.tokens, framed.lengths, framed.types)
        return recording

    def _rows(self, texts: Sequence[str]) -> list[FramedRow]:
        """Texts as the model was trained to read them, none of them cut.

        Raises:
            ArgumentError: one is longer than what the model reads.
        """
        runner = self.runner
        if isinstance(runner, MaskedModel):
            rows = [runner.encode(text) for text in texts]
            check_lengths("text", [len(row) for row in rows], runner.model.config.max_length)
            return [FramedRow(row, [0] * len(row)) for row in rows]
        sizes = [len(ids) + 2 for ids in runner.tokenizer.encode_batch(texts)]
        check_lengths("text", sizes, runner.longest)
        if isinstance(runner, Classifier):
            return text_rows(runner.tokenizer, [(text,) for text in texts], runner.longest)
        words = [[text[start:stop] for start, stop in split_words(text)] for text in texts]
        several = sentence_rows(runner.tokenizer, words, runner.longest)
        for number, parts in enumerate(several, start=1):
            if len(parts) != 1:
                raise ArgumentError(
                    f"text {number}: the model reads its words in {len(parts)} parts; give a shorter one"
                )
        return [parts[0].row for parts in several]


def _check_asked(name: str, texts: Sequence[str], targets: Sequence[str] | None) -> None:
    check_texts(texts, None)
    if targets is not None:
        raise ArgumentError(f"targets are for models with a target; {name} reads one text")
