"""Opening what can be recorded or looked at: model directories of both kinds, and recordings on disk.

A `Subject` reads texts and hands out what its attentions did; which kind of model it is matters nowhere else.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.data import display_name, read_lines
from regard.errors import ArgumentError, CheckpointError, DataError, RegardError, UnsupportedError
from regard.interop.huggingface.directory import is_directory, open_directory, quiet
from regard.recording import Recording, record
from regard.runs.build import torch_device
from regard.runs.directory import CONFIG, RECIPE, read_json
from regard.runs.labels import Classifier, Tagger
from regard.runs.language_model import LanguageModel
from regard.runs.load import load
from regard.runs.masked_model import MaskedModel
from regard.runs.subjects import Subject, SubjectKind, check_lengths, check_texts
from regard.runs.text_subjects import EncoderSubject, LanguageModelSubject
from regard.runs.translator import Translator
from regard.tasks.translation import collate

UNSET_LENGTH = 20
"""The longest output that transformers takes where a model doesn't say; it means nothing."""


class TranslatorSubject:
    """A model made by `regard train`.

    Args:
        translator: it with its tokenizers.
    """

    kind: SubjectKind = "translator"

    def __init__(self, translator: Translator) -> None:
        self.translator = translator

    @property
    def name(self) -> str:
        """See `Subject.name`."""
        return type(self.translator.model).__name__

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
        translator = self.translator
        check_texts(texts, targets)
        if generate is not None:
            raise ArgumentError("--generate: a translator writes whole translations, which is what it does without it")
        translator.check_attends()
        chosen = None if heads is None else [*heads]
        recorder = record(translator, where, heads=chosen)  # before any work, as it may refuse
        sources = translator.encode("source", texts)
        check_lengths("source", [len(row) for row in sources], translator.max_tokens)
        if targets is None:
            targets = [one.text for one in translator.translate(texts)]
            for number, said in enumerate(targets, start=1):
                if not said.strip():
                    raise ArgumentError(f"text {number}: the model's translation of it is empty; give a target")
        said_ids = translator.encode("target", targets)
        check_lengths("target", [len(row) for row in said_ids], translator.max_tokens)
        batch = collate(sources, said_ids, translator.specials, translator.device)
        with torch.no_grad(), recorder as recording:
            translator.model(batch.sources.tokens, batch.sources.lengths, batch.inputs)
        return recording


class HuggingFaceSubject:
    """A model of Hugging Face transformers that reads text.

    Args:
        model: in evaluation mode.
        tokenizer: of its texts.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @property
    def name(self) -> str:
        """See `Subject.name`."""
        return type(self.model).__name__

    @property
    def kind(self) -> SubjectKind:
        """See `Subject.kind`."""
        if self.model.config.is_encoder_decoder:
            return "encoder-decoder"
        return "decoder" if self.model.can_generate() else "encoder"

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
        if not _takes(self.model, "input_ids"):
            raise UnsupportedError(f"{self.name} reads no text; record it in Python, with regard.record")
        self._check_asked(targets, generate)
        check_texts(texts, targets)
        chosen = None if heads is None else [*heads]
        recorder = record(
            self.model, where, heads=chosen, keep=1 if generate is None else "generation", tokenizer=self.tokenizer
        )
        try:
            with torch.no_grad(), quiet():
                if generate is not None:
                    # what is continued must end where the model goes on
                    inputs = self._inputs(texts, "right" if self.kind == "encoder-decoder" else "left")
                    with recorder as recording:
                        self.model.generate(**inputs, max_new_tokens=generate, do_sample=False)
                    return recording
                inputs = self._inputs(texts, "right")
                if self.kind == "encoder-decoder":
                    inputs |= self._own(inputs) if targets is None else self._given(targets)
                # the stack alone: scores over the vocabulary at each position would be larger than all else
                runs = self.model.base_model
                off = {"use_cache": False} if _takes(runs, "use_cache") else {}
                with recorder as recording:
                    runs(**inputs, **off)
                return recording
        except RegardError:
            raise
        except (IndexError, TypeError, ValueError) as error:
            # too many positions, pixels that are missing, and what else a model asks of what it reads
            first = next(iter(str(error).strip().splitlines()), "")
            longest = max(len(one) for one in self.tokenizer([*texts])["input_ids"])
            raise UnsupportedError(
                f"{self.name} can't read these texts ({longest} tokens in the longest): {type(error).__name__}: {first}"
            ) from error

    def _check_asked(self, targets: Sequence[str] | None, generate: int | None) -> None:
        if targets is not None and self.kind != "encoder-decoder":
            raise ArgumentError(f"targets are for encoder–decoder models; {self.name} reads one text")
        if targets is not None and generate is not None:
            raise ArgumentError("--generate: give targets, or let the model generate")
        if generate is not None and generate < 1:
            raise ArgumentError(f"--generate is {generate}: expected 1 or more")
        writes = generate is not None or (self.kind == "encoder-decoder" and targets is None)
        if writes and not self.model.can_generate():
            raise ArgumentError(
                f"{self.name} can't generate"
                + (": give targets" if self.kind == "encoder-decoder" else ", it only reads")
            )

    def _inputs(self, texts: Sequence[str], side: str, target: bool = False) -> dict[str, Tensor]:
        """Texts as one padded batch of what the model takes."""
        tokenizer = self.tokenizer
        if len(texts) > 1 and tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ArgumentError("the tokenizer has no token for padding: give one text at a time")
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = side
        given = {"text_target" if target else "text": [*texts]}
        batch = tokenizer(
            **given, padding=len(texts) > 1, return_attention_mask=True, return_tensors="pt", verbose=False
        )
        rows = batch["attention_mask"].sum(-1).tolist()
        check_lengths("target" if target else "text", rows, self._most())
        if min(rows) == 0:
            raise ArgumentError(f"text {rows.index(0) + 1}: the tokenizer makes no token of it")
        return {name: x.to(self.model.device) for name, x in batch.items() if _takes(self.model, name)}

    def _most(self) -> int:
        """The most tokens that it reads: beyond its positions a model fails, or was never trained."""
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        most: int = self.tokenizer.model_max_length
        return most if positions is None else min(most, positions)

    def _own(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the model says to a source: what its decoder was fed, and which of it is no padding."""
        config = self.model.generation_config
        limit = {}
        if config.max_new_tokens is None and config.max_length in (None, UNSET_LENGTH):
            limit = {"max_new_tokens": 2 * inputs["input_ids"].shape[1] + 10}
        said = self.model.generate(**inputs, do_sample=False, **limit)  # (N, T), the first of them fed to begin
        ends = torch.as_tensor([] if config.eos_token_id is None else config.eos_token_id, device=said.device)
        over = torch.isin(said, ends)
        over[:, 0] = False  # some models begin with what others end with
        over[:, -1] = True
        lengths = over.int().argmax(-1)
        return _decoder_inputs(said, lengths)

    def _given(self, targets: Sequence[str]) -> dict[str, Tensor]:
        """The same for given targets: the model is fed all but their last token."""
        batch = self._inputs(targets, "right", target=True)
        labels, real = batch["input_ids"], batch.get("attention_mask")
        lengths = torch.full((len(labels),), labels.shape[1]) if real is None else real.sum(-1)
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            fed = self.model.prepare_decoder_input_ids_from_labels(labels=labels)
        else:
            start = self.model.config.decoder_start_token_id
            fed = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
        return _decoder_inputs(fed, lengths.to(labels.device))


def is_recording(path: Path) -> bool:
    """Whether a path is a file, so that it should be a recording, and not a model."""
    return path.is_file()


def open_subject(path: Path, *, device: str = "auto", threads: int | None = None) -> Subject:
    """Open the directory of a model, made by `regard train` or of Hugging Face transformers.

    Args:
        path: the directory.
        device: "auto", "cpu", "cuda:0", …
        threads: CPU threads to set, None leaves them.

    Raises:
        CheckpointError: it is missing, unfinished, damaged, or of neither kind.
        RecipeError: there is no such device.
        MissingExtraError: transformers isn't installed.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if path.is_dir() and not (path / CONFIG).exists() and not (path / RECIPE).exists():
        raise CheckpointError(
            f"{path}: expected a directory made by `regard train`, or of a Hugging Face model; it has no {CONFIG}"
        )
    if not (path / CONFIG).is_file() or not is_directory(read_json(path / CONFIG)):
        return subject_of(load(path, device=device))
    model, tokenizer = open_directory(path, torch_device(device))
    if tokenizer is None:
        raise CheckpointError(f"{path}: has no files of a tokenizer, so the model can read no text")
    return HuggingFaceSubject(model, tokenizer)


def subject_of(runner: Translator | LanguageModel | MaskedModel | Classifier | Tagger) -> Subject:
    """What `regard.load` gives, as something to record."""
    if isinstance(runner, Translator):
        return TranslatorSubject(runner)
    return LanguageModelSubject(runner) if isinstance(runner, LanguageModel) else EncoderSubject(runner)


def read_texts(path: Path | None, document: bool) -> list[str]:
    """Texts from a file.

    Args:
        path: the file, compressed or not; None and `-` are standard input.
        document: the whole of it is one text; else each line is one.

    Raises:
        DataError: the file can't be read, is empty, or has a blank line.
    """
    where = Path("-") if path is None else path
    lines = list(read_lines(where))
    if document:
        lines = ["\n".join(lines)]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            at = "" if document else f", line {number}"
            raise DataError(f"{display_name(where)}{at}: is blank, expected a text")
    if not lines:
        raise DataError(f"{display_name(where)}: is empty, expected a text")
    return lines


def _decoder_inputs(ids: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """What a decoder reads, (N, T) of which the first tokens count: its inputs, without columns of padding alone."""
    longest = int(lengths.max())
    real = torch.arange(longest, device=ids.device) < lengths[:, None]
    return {"decoder_input_ids": ids[:, :longest], "decoder_attention_mask": real.long()}


def _takes(module: Any, name: str) -> bool:
    return name in inspect.signature(module.forward).parameters
