"""Toy models for decoding. Each notes the rows it was asked for, so that tests can see sentences leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from regard.layers.state import State

MODULUS = 10007


@dataclass
class Markov:
    """Log-probabilities from a table (S, V, V) per sentence, by the last token: a memory that is never repeated."""

    table: Tensor
    seen: list[int] = field(default_factory=list)

    def start(self, batch: list[int]) -> State:
        rows = torch.tensor(batch, dtype=torch.int64)
        return State(sentence={"table": self.table[rows]}, hypothesis={}, position=0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        self.seen.append(tokens.shape[0])
        table = state.sentence["table"]
        by_sentence = tokens.view(table.shape[0], -1)  # (S, W)
        log_probs = table.gather(1, by_sentence[:, :, None].expand(-1, -1, table.shape[2]))
        return log_probs.flatten(0, 1), State(state.sentence, state.hypothesis, state.position + 1)

    def log_prob(self, row: int, prefix: list[int]) -> Tensor:
        return self.table[row, prefix[-1]]


@dataclass
class Hashing:
    """Log-probabilities from a running hash of the whole prefix and of the sentence's own number.

    A wrong parent, or a hypothesis read with another sentence's memory, changes everything after it.
    """

    vocabulary: int
    eos: int
    eos_bonus: float = 0.0
    seen: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def start(self, batch: list[int]) -> State:
        seed = torch.tensor(batch, dtype=torch.int64)
        return State(sentence={"seed": seed}, hypothesis={"hash": torch.zeros_like(seed)}, position=0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        self.seen.append(tokens.shape[0])
        self.positions.append(state.position)
        seed = state.sentence["seed"]
        width = tokens.shape[0] // seed.shape[0]
        hashes = (state.hypothesis["hash"] * 31 + tokens + 7) % MODULUS
        of_sentence = torch.arange(tokens.shape[0]) // width
        return self._scores(hashes, seed[of_sentence]), State(state.sentence, {"hash": hashes}, state.position + 1)

    def log_prob(self, row: int, prefix: list[int]) -> Tensor:
        value = 0
        for token in prefix:
            value = (value * 31 + token + 7) % MODULUS
        return self._scores(torch.tensor([value]), torch.tensor([row]))[0]

    def _scores(self, hashes: Tensor, seeds: Tensor) -> Tensor:
        ids = torch.arange(self.vocabulary)
        mixed = ((hashes[:, None] + 101 * seeds[:, None]) * 7919 + (ids + 1) * 104729) % MODULUS
        mixed = mixed**3 % MODULUS  # not linear: sums along different paths would be equal
        logits = 4.0 * mixed.double() / MODULUS
        logits[:, self.eos] += self.eos_bonus
        return logits.log_softmax(1)


@dataclass
class Reading:
    """A decoder-only model: log-probabilities from a hash of a whole text, of which it reads `positions` tokens.

    What is read at the start is remembered per sentence, and what is fed per hypothesis.
    """

    vocabulary: int
    positions: int
    read: list[int] = field(default_factory=list)  # tokens that `start` was given, each time

    def start(self, prompts: Tensor, lengths: Tensor) -> State:
        self.read.append(int(lengths.sum()))
        hashes = torch.zeros_like(lengths)
        for place, column in enumerate(prompts.T):
            hashes = torch.where(place < lengths, self._next(hashes, column), hashes)
        used = {"used": lengths.clone(), "fed": torch.zeros_like(lengths)}
        return State({"begin": hashes}, used, prompts.shape[1])

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        used = state.hypothesis["used"] + 1
        assert int(used.max()) <= self.positions
        begin = state.sentence["begin"]
        fed = self._next(state.hypothesis["fed"], tokens)
        of_sentence = torch.arange(tokens.shape[0]) // (tokens.shape[0] // begin.shape[0])
        log_probs = self._scores(begin[of_sentence], fed, used)
        return log_probs, State(state.sentence, {"used": used, "fed": fed}, state.position + 1)

    def log_prob(self, read: list[int], fed: list[int]) -> Tensor:
        hashes = []
        for part in (read, fed):
            value = torch.zeros(1, dtype=torch.int64)
            for token in part:
                value = self._next(value, torch.tensor([token]))
            hashes.append(value)
        return self._scores(*hashes, torch.tensor([len(read) + len(fed)]))[0]

    @staticmethod
    def _next(hashes: Tensor, tokens: Tensor) -> Tensor:
        return (hashes * 31 + tokens + 7) % MODULUS

    def _scores(self, begin: Tensor, fed: Tensor, used: Tensor) -> Tensor:
        ids = torch.arange(self.vocabulary)
        mixed = ((begin * 5 + fed + 101 * used)[:, None] * 7919 + (ids + 1) * 104729) % MODULUS
        logits = 4.0 * (mixed**3 % MODULUS).double() / MODULUS
        return logits.log_softmax(1)


def padded(texts: list[list[int]], filler: int = 3) -> tuple[Tensor, Tensor]:
    """Texts as a decoder-only model starts from them; what follows in a row is `filler`."""
    longest = max(map(len, texts), default=0)
    rows = [text + [filler] * (longest - len(text)) for text in texts]
    return torch.tensor(rows, dtype=torch.int64).view(len(texts), longest), torch.tensor([*map(len, texts)])


def markov_table(sentences: int, vocabulary: int, seed: int, sharpness: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(sentences, vocabulary, vocabulary, generator=generator, dtype=torch.float64)
    return (sharpness * logits).log_softmax(2)


def space(
    model: Markov | Hashing, row: int, *, vocabulary: int, bos: int, eos: int, max_length: int, min_length: int = 0
) -> list[tuple[tuple[int, ...], bool, tuple[float, ...]]]:
    """Every sequence a search may return, as (tokens, finished, log-probabilities): all ended ones and all cut ones."""
    complete = []
    open_ones: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((), ())]
    for length in range(max_length):
        longer = []
        for tokens, terms in open_ones:
            log_probs = model.log_prob(row, [bos, *tokens]).tolist()
            for token in range(vocabulary):
                so_far = (*terms, log_probs[token])
                if token != eos:
                    longer.append(((*tokens, token), so_far))
                elif length >= min_length:
                    complete.append((tokens, True, so_far))
        open_ones = longer
    return complete + [(tokens, False, terms) for tokens, terms in open_ones]


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    factories: dict[str, Callable[..., object]] = {
        "Markov": Markov,
        "Hashing": Hashing,
        "Reading": Reading,
        "padded": padded,
        "markov_table": markov_table,
        "space": space,
    }
    return SimpleNamespace(**factories)
