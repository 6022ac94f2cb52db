"""`LanguageModel`: a trained decoder-only model with its tokenizer, which goes on from prompts and judges texts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from regard.data import inference_batches
from regard.data.tokenizers import Tokenizer
from regard.decoding import (
    Ends,
    Hypothesis,
    Limits,
    Prompted,
    Ruled,
    Said,
    Sliding,
    State,
    StepModel,
    Stepwise,
    StopAt,
    TextStream,
)
from regard.decoding.said import collected
from regard.errors import ArgumentError
from regard.insight.tokens import Tokens
from regard.models.gpt import GPT, GPTConfig, build_gpt
from regard.runs.directory import WEIGHTS, SavedConfig, load_weights_file, not_understood, read_joint_tokenizer
from regard.runs.generations import Asked, Generation, How, Piece, Prompt, asked_of, generation_of
from regard.runs.jobs import check_list, sentence_key
from regard.runs.sides import tokens_of
from regard.runs.text_reading import TextReading, rows_of
from regard.runs.windows import BATCH_ROWS, BATCH_TOKENS, Perplexity, check_windows, joined, perplexity_of, predicted

__all__ = ["Generation", "How", "LanguageModel", "Perplexity", "Piece", "open_language_modelling"]

BATCH_HYPOTHESES = 256
FED_FIRST = 0  # what searches feed first is not looked at; see `Prompted`


class LanguageModel:
    """A trained decoder-only model with its tokenizer.

    Calls don't change it: a process may keep one and use it again and again, from one thread at a time.

    A text that grows beyond the model's positions goes on: the last half of what the positions hold is read again (see
    `regard.decoding.Sliding`).

    Args:
        model: in evaluation mode, on its device.
        tokenizer: of its texts.
        begin: the token that stands before a text, or None where the model has never seen one there.
        end: the tokens that end a text; there may be none.
        defaults: of sampling: temperature, top_k, top_p, max_tokens; 1, no filter and 200 where they are missing or
            None.
        reading: how the text was read that it was trained on, where that is known.

    Raises:
        ArgumentError: begin or an end is no token of the model.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        begin: int | None,
        end: tuple[int, ...],
        defaults: Mapping[str, Any] | None = None,
        reading: TextReading | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.begin, self.end = begin, tuple(end)
        self.defaults: dict[str, Any] = dict(defaults or {})
        self.reading = reading
        self.device = model.output.weight.device
        self.max_tokens = model.config.max_length
        """Positions: the longest prompt in tokens, the start symbol included."""
        # Some tables are wider than the tokenizer, some tokenizers than the table.
        self._vocabulary = min(tokenizer.vocab_size, model.config.vocabulary)
        if begin is not None and not 0 <= begin < model.config.vocabulary:
            raise ArgumentError(f"begin is {begin}; expected a token from 0 to {model.config.vocabulary - 1}")
        sliding = Sliding(model, self.max_tokens, begin=begin if self.max_tokens > 1 else None)
        self._ends = Ends(Prompted(sliding), self.end, self._vocabulary)
        self.listeners: list[Callable[[Sequence[int], Sequence[Sequence[int]]], None]] = []
        """Called after the search for each batch with, for all that was found in the order of the prompts: which
        prompt of the batch it is of, and all ids, those of the prompt first. Recordings listen."""

    def generate(self, prompts: str | Sequence[str], **how: Unpack[How]) -> list[Generation]:
        """How one prompt, or each of several, goes on: what `generate_each` finds, prompt after prompt in one list."""
        if isinstance(prompts, str):
            asked = asked_of(self.defaults, **how)
            return self._generated([self._prompt(prompts, asked)], asked)[0]
        return [one for few in self.generate_each(prompts, **how) for one in few]

    def generate_each(self, prompts: Sequence[str], **how: Unpack[How]) -> list[list[Generation]]:
        """How each prompt goes on: samples in the order of their numbers, or what a search finds, best first.

        What is found for a prompt does not depend on the other prompts. A sample is a function of the model, the seed,
        the prompt and its number.

        Args:
            prompts: texts; nothing is stripped from them. An empty one is the beginning of a text.
            how: see `How`.

        Raises:
            ArgumentError: a prompt is too long, or is empty where the model knows no beginning; the message has its
                index. Arguments contradict each other, or are out of range.
        """
        asked = asked_of(self.defaults, **how)
        check_list("prompts", prompts)
        if not isinstance(prompts, Iterable):
            raise ArgumentError(f"prompts: got {prompts!r}, expected a text or a list of texts")
        return self._generated([self._prompt(text, asked, number) for number, text in enumerate(prompts)], asked)

    def stream(self, prompt: str, **how: Unpack[How]) -> Iterator[str]:
        """The text of `generate(prompt, …)[0]` in pieces, each as soon as it is certain; arguments and errors as there.

        No piece ends within a character. A search that doesn't go token by token has no stream.
        """
        return (piece.text for piece in self.stream_samples(prompt, **how) if piece.number == 0 and piece.text)

    def stream_samples(self, prompt: str, **how: Unpack[How]) -> Iterator[Piece]:
        """All that `generate` finds for one prompt, as it comes: samples take turns. Arguments and errors as there.

        Raises:
            ArgumentError: also for a search that doesn't go token by token, such as beam search.
        """
        asked = asked_of(self.defaults, **how)
        if not isinstance(asked.search, Stepwise):
            raise ArgumentError(f"{asked.search} knows its text in the end only; expected Greedy or Sampling to stream")
        return self._streamed(asked.search, asked, self._prompt(prompt, asked))

    def score(self, texts: Sequence[str]) -> list[list[float]]:
        """Natural-log probability of each token of texts of any length.

        Where the model has no start symbol, nothing predicts the first token: the list has one less. Texts longer than
        the model's positions are read in windows, as by `perplexity` with its defaults.
        """
        rows = [[*self._first(), *ids] for ids in self._encoded("texts", texts)]
        found = predicted(self.model, rows, self.max_tokens, self._stride(self.max_tokens))
        return [each.log_probs.tolist() for each in found]

    def perplexity(
        self,
        text: str | Sequence[int],
        stride: int | None = None,
        length: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Perplexity:
        """How well the model predicts one text, or the tokens of one.

        Windows overlap, as Hugging Face's documentation of perplexity describes it: a smaller stride gives tokens more
        context, and costs more.

        Args:
            text: running text, or ids of tokens without a start symbol.
            stride: how far each window is from the one before; half the length if not given.
            length: tokens that are read in a window; all of the model's positions if not given.
            progress: is told how many tokens have been predicted, and of how many.

        Raises:
            ArgumentError: there is nothing to predict; ids that are not the model's; length or stride out of range.
        """
        ids = self._encoded("text", [text])[0] if isinstance(text, str) else list(text)
        if not all(0 <= one < self.model.config.vocabulary for one in ids):
            raise ArgumentError(f"text: expected tokens from 0 to {self.model.config.vocabulary - 1}")
        size = len(text.encode()) if isinstance(text, str) else self._size(ids)
        return self._perplexity([[*self._first(), *ids]], size, stride, length, progress)

    def perplexity_of_documents(
        self,
        documents: Sequence[str],
        stride: int | None = None,
        length: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Perplexity:
        """How well the model predicts documents, read as in training: the figures of all of them together.

        A model of packed documents predicts each from its own beginning, one of a stream all one after another; in both
        the end that closes a document is a token to predict, of no bytes. Where it isn't known how the model was
        trained (`reading` is None), each is predicted from its own beginning, and no end.

        Args:
            documents: texts.
            stride, length, progress: see `perplexity`.

        Raises:
            ArgumentError: as for `perplexity`.
        """
        rows = rows_of(self._encoded("documents", documents), self.reading, self._first(), self.end[:1])
        return self._perplexity(rows, sum(len(one.encode()) for one in documents), stride, length, progress)

    def embed(self, texts: Sequence[str], how: Literal["mean", "last"] = "mean") -> Tensor:
        """A vector for each text, from what the model has before its output.

        Args:
            texts: those; what is found for one doesn't depend on the others.
            how: the mean over the text's tokens, or that of the last one, which has seen all. A start symbol is read,
                and has no part in the mean.

        Returns:
            (B, E), float32 on the CPU.

        Raises:
            ArgumentError: a text is empty or has more tokens than the model has positions, or `how` is neither.
        """
        if how not in ("mean", "last"):
            raise ArgumentError(f"how: got {how!r}, expected 'mean' or 'last'")
        first = self._first()
        rows = [[*first, *ids] for ids in self._encoded("texts", texts)]
        for number, row in enumerate(rows):
            if len(row) == len(first):
                raise ArgumentError(f"texts: number {number} is empty")
            if len(row) > self.max_tokens:
                raise ArgumentError(
                    f"texts: number {number} has {len(row)} tokens; the model has positions for {self.max_tokens}"
                )
        vectors = torch.empty(len(rows), self.model.config.width)
        for batch in inference_batches([len(row) for row in rows], BATCH_TOKENS, BATCH_ROWS):
            tokens, lengths = self._padded([rows[int(i)] for i in batch])
            with torch.no_grad():
                hidden = self.model(tokens).float()  # (B, L, E)
            places = torch.arange(tokens.shape[1], device=self.device)
            begins = lengths - 1 if how == "last" else torch.full_like(lengths, len(first))
            counted = (places >= begins[:, None]) & (places < lengths[:, None])  # (B, L)
            # padding is left out, not multiplied by 0: what is there need not be finite
            chosen = hidden.where(counted[..., None], 0.0).sum(1) / counted.sum(1, keepdim=True)
            vectors[torch.from_numpy(batch)] = chosen.cpu()
        return vectors

    def tokens_of(self, sequence: str, ids: Sequence[int], real: Sequence[bool]) -> Tokens:
        """What stands at the positions of what the model reads, for recordings."""
        return tokens_of(self.tokenizer, ids, real)

    def prompt_length(self, text: str) -> int:
        """Number of tokens of a prompt, with a start symbol; more than `max_tokens` only with `cut`."""
        return len(self._first()) + len(self._encoded("prompt", [text])[0])

    def unknown(self, *texts: str) -> int:
        """Number of tokens of texts that stand for something the tokenizer doesn't know."""
        return sum(ids.count(self.tokenizer.unk_id) for ids in self._encoded("texts", texts))

    def _perplexity(
        self,
        rows: Sequence[Sequence[int]],
        size: int,
        stride: int | None,
        length: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> Perplexity:
        """The figures of rows of ids whose text has `size` bytes."""
        longest = self.max_tokens if length is None else length
        check_windows(longest, 1 if stride is None else stride, self.max_tokens)
        step = self._stride(longest) if stride is None else stride
        found = joined(predicted(self.model, rows, longest, step, progress))
        if not len(found.log_probs):
            raise ArgumentError("text: there is no token to predict in it")
        unseen = sum(self._size(row[:1]) for row in rows) if self.begin is None else 0
        return perplexity_of(found, size - unseen, step, longest)

    def _generated(self, jobs: Sequence[Prompt], asked: Asked) -> list[list[Generation]]:
        model = self._ruled(asked)
        results: list[list[Generation]] = [[] for _ in jobs]
        rows = max(1, BATCH_HYPOTHESES // asked.search.width)
        for batch in inference_batches([len(job.ids) for job in jobs], BATCH_TOKENS, min(rows, BATCH_ROWS)):
            indices = batch.tolist()
            state, limits = self._start(model, [jobs[i] for i in indices], asked)
            found = asked.search.run(model, state, limits)
            self._tell([(i, jobs[i], few) for i, few in zip(indices, found, strict=True)])
            for i, few in zip(indices, found, strict=True):
                results[i] = [generation_of(self.tokenizer, one, asked.stop, jobs[i].notes) for one in few]
        return results

    def _streamed(self, search: Stepwise, asked: Asked, job: Prompt) -> Iterator[Piece]:
        model = self._ruled(asked)
        state, limits = self._start(model, [job], asked)
        texts = [TextStream(asked.stop) for _ in range(asked.search.width)]
        history: list[Said] = []
        over: set[int] = set()
        for said in search.steps(model, state, limits):
            history.append(said)
            for number, token in zip(said.numbers.tolist(), said.tokens.tolist(), strict=True):
                if number in over:
                    continue  # the end that follows a stop string
                text = texts[number].feed(self._surface(token))
                if token in (-1, limits.eos) or texts[number].stopped or len(history) == asked.max_tokens:
                    over.add(number)
                    one = collected(history, 1, len(texts), limits.eos)[0][number]
                    done = generation_of(self.tokenizer, one, asked.stop, job.notes)
                    yield Piece(number, text + texts[number].finish(), done)
                elif text:
                    yield Piece(number, text)
            if len(over) == len(texts):
                break
        self._tell([(0, job, collected(history, 1, len(texts), limits.eos)[0])])

    def _prompt(self, text: str, asked: Asked, number: int | None = None) -> Prompt:
        """A prompt as the model reads it; `number` is its own among several."""
        name = "the prompt" if number is None else f"prompt {number}"
        first, own = self._first(), self._encoded(name, [text])[0]
        ids, notes = [*first, *own], tuple[str, ...]()
        if not ids:
            raise ArgumentError(
                f"{name} is empty, and the model knows no beginning of a text: give it one character at least, such as "
                "a line end"
            )
        if len(ids) > self.max_tokens:
            if not asked.cut:
                raise ArgumentError(
                    f"{name} has {len(ids)} tokens; the model has positions for {self.max_tokens}: shorten it, or let "
                    "it be cut from the left (--cut, in Python cut=True)"
                )
            kept = self.max_tokens - len(first)
            notes = (f"{name} has {len(own)} tokens; the model read the last {kept}",)
            ids = [*first, *own[len(own) - kept :]]
        return Prompt(tuple(ids), sentence_key(asked.seed, text), notes)

    def _ruled(self, asked: Asked) -> StepModel:
        """The model with what is asked of it."""
        rules = [*asked.rules]
        if asked.stop:
            rules.append(StopAt(self.tokenizer.surfaces, asked.stop, self._ends.eos))
        return Ruled(self._ends, rules) if rules else self._ends

    def _start(self, model: StepModel, jobs: Sequence[Prompt], asked: Asked) -> tuple[State, Limits]:
        """The state after the prompts of a batch, and what a search is told of it."""
        with torch.no_grad():
            state = model.start(*self._padded([job.ids for job in jobs]))
        keys = tuple(job.key for job in jobs)
        return state, Limits(FED_FIRST, self._ends.eos, asked.max_tokens, keys=keys)

    def _tell(self, found: Sequence[tuple[int, Prompt, Sequence[Hypothesis]]]) -> None:
        """Tell the listeners what was found for a batch: of each prompt its place, itself and what follows."""
        order = sorted(range(len(found)), key=lambda at: found[at][0])
        sentences = [at for at in order for _ in found[at][2]]
        ids = [[*found[at][1].ids, *one.tokens] for at in order for one in found[at][2]]
        for listener in tuple(self.listeners):
            listener(sentences, ids)

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Ids of texts, padded at the end (S, K), and their lengths (S,), on the device."""
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = torch.tensor(list(ids))
        return tokens.to(self.device), lengths.to(self.device)

    def _encoded(self, name: str, texts: Sequence[str]) -> list[list[int]]:
        check_list(name, texts)
        for one in texts:
            if not isinstance(one, str):
                raise ArgumentError(f"{name}: got {one!r}, expected text")
        return self.tokenizer.encode_texts(texts)

    def _first(self) -> list[int]:
        """What stands before every text."""
        return [] if self.begin is None else [self.begin]

    def _surface(self, token: int) -> bytes:
        """What a token adds to a text; nothing for the end symbol, and for −1: that none was possible."""
        return self.tokenizer.surfaces[token] if 0 <= token < self._vocabulary else b""

    def _size(self, ids: Sequence[int]) -> int:
        return sum(len(self._surface(one)) for one in ids)

    @staticmethod
    def _stride(length: int) -> int:
        return max(1, length // 2)


def open_language_modelling(directory: Path, saved: SavedConfig, device: torch.device) -> LanguageModel:
    """The language model of a directory whose config.json has been read.

    Raises:
        CheckpointError: it is damaged, or has what isn't understood; the message names the file.
    """
    config = saved.config({GPTConfig.NAME: GPTConfig})
    tokenizer = read_joint_tokenizer(directory)
    model = build_gpt(config)
    load_weights_file(directory / WEIGHTS, model)
    try:
        defaults = dict(saved.content["generation"])
        begin, end = defaults.pop("begin"), tuple(defaults.pop("end"))
        reading = TextReading.of(saved.content)
        return LanguageModel(model.to(device).eval(), tokenizer, begin, end, defaults, reading)
    except (KeyError, TypeError, ValueError, ArgumentError) as error:
        raise not_understood(saved.path, error) from error
