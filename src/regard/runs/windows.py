"""Probabilities of all tokens of texts of any length, by windows that overlap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from regard.data import inference_batches
from regard.errors import ArgumentError
from regard.models.gpt import GPT

BATCH_TOKENS = 8192  # positions read together
BATCH_ROWS = 64
BLOCK = 1 << 24  # logits at a time
LARGEST = 700  # e to the power of a little more is too large for a number


@dataclass(frozen=True)
class Window:
    """A part of a text that a model reads at once.

    Attributes:
        text: which text.
        begin, end: the tokens that are read: those are predicted that follow them.
        first: the first token that is predicted here is that after this one; windows before predicted the others.
    """

    text: int
    begin: int
    end: int
    first: int


@dataclass(frozen=True)
class Predicted:
    """What a model gives to the tokens of a text, but for the first.

    Attributes:
        log_probs: (T,) natural-log probability of each, float32 on the CPU.
        hits: (T,) bool, whether it is the most probable one.
    """

    log_probs: Tensor
    hits: Tensor


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a text.

    Attributes:
        perplexity: e to the power of `loss`; of tokens, so it compares models with the same tokenizer only.
        bits_per_byte: − log₂ of the probability of the text, per byte of UTF-8: it compares models with any tokenizers
            that lose nothing of the text.
        loss: mean negative natural-log probability of a token.
        accuracy: share of the tokens that the model finds most probable.
        tokens: how many were predicted: all, but the first of a text where the model has no start symbol to predict it
            from.
        bytes: of those tokens' text.
        stride, length: windows of `length` tokens, each `stride` further: each token was predicted once, from at least
            `length` − `stride` + 1 tokens before it, or from all there are.
    """

    perplexity: float
    bits_per_byte: float
    loss: float
    accuracy: float
    tokens: int
    bytes: int
    stride: int
    length: int


def joined(found: Sequence[Predicted]) -> Predicted:
    """What was found for texts, one after another; nothing for none."""
    log_probs, hits = [each.log_probs for each in found], [each.hits for each in found]
    return Predicted(torch.cat([torch.zeros(0), *log_probs]), torch.cat([torch.zeros(0, dtype=torch.bool), *hits]))


def perplexity_of(found: Predicted, size: int, stride: int, length: int) -> Perplexity:
    """The figures of texts of which a token at least was predicted, and of which that part has `size` bytes."""
    count = len(found.log_probs)
    total = -float(found.log_probs.double().sum())
    loss = total / count
    return Perplexity(
        perplexity=math.exp(loss) if loss < LARGEST else math.inf,
        bits_per_byte=total / math.log(2) / size if size > 0 else math.nan,
        loss=loss,
        accuracy=float(found.hits.double().mean()),
        tokens=count,
        bytes=size,
        stride=stride,
        length=length,
    )


def check_windows(length: int, stride: int, positions: int) -> None:
    """Refuse windows that a model cannot read, or that leave tokens out.

    Raises:
        ArgumentError: length is no whole number from 1 to the model's positions, or stride none from 1 to the length.
    """
    for name, given in (("length", length), ("stride", stride)):
        if not isinstance(given, Integral):
            raise ArgumentError(f"{name} is {given!r}; expected a whole number")
    if not 1 <= length <= positions:
        raise ArgumentError(f"length is {length}; expected 1 to the model's positions, {positions}")
    if not 1 <= stride <= length:
        raise ArgumentError(f"stride is {stride}; expected 1 to the length, {length}")


def windows_of(text: int, tokens: int, length: int, stride: int) -> list[Window]:
    """The windows of a text: each of `length` tokens, `stride` further than the one before; the last may be shorter.

    Every token but the first is predicted once: with all tokens before it in the first window, and with at least
    `length` − `stride` + 1 of them in the others.
    """
    last = tokens - 1  # is predicted, and not read
    windows: list[Window] = []
    begin = first = 0
    while first < last:
        end = min(begin + length, last)
        windows.append(Window(text, begin, end, first))
        begin, first = begin + stride, end
    return windows


def predicted(
    model: GPT,
    texts: Sequence[Sequence[int]],
    length: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Predicted]:
    """What a model gives to the tokens of texts, each but the first of its text.

    Args:
        model: in evaluation mode.
        texts: ids; of one without a second token nothing is predicted.
        length, stride: of the windows; see `windows_of`.
        progress: is told how many tokens have been predicted, and of how many.

    Raises:
        ArgumentError: as for `check_windows`.
    """
    check_windows(length, stride, model.config.max_length)
    device = model.output.weight.device
    tables = [torch.tensor(list(ids), dtype=torch.int64) for ids in texts]
    log_probs = [torch.zeros(max(0, len(table) - 1)) for table in tables]
    hits = [torch.zeros(len(each), dtype=torch.bool) for each in log_probs]
    windows = [one for text, table in enumerate(tables) for one in windows_of(text, len(table), length, stride)]
    done, total = 0, sum(map(len, log_probs))
    for batch in inference_batches([one.end - one.begin for one in windows], BATCH_TOKENS, BATCH_ROWS):
        chosen = [windows[int(i)] for i in batch]
        longest = max(one.end - one.begin for one in chosen)
        # Padding is at the end: nothing before it sees it.
        tokens = torch.zeros(len(chosen), longest, dtype=torch.int64)
        wanted = torch.zeros(len(chosen), longest, dtype=torch.bool)
        for row, one in enumerate(chosen):
            tokens[row, : one.end - one.begin] = tables[one.text][one.begin : one.end]
            wanted[row, one.first - one.begin : one.end - one.begin] = True
        targets = torch.cat([tables[one.text][one.first + 1 : one.end + 1] for one in chosen])
        with torch.no_grad():
            hidden = model(tokens.to(device))[wanted.to(device)]  # (T, E)
            terms, best = _of_targets(model, hidden, targets.to(device))
        counts = [one.end - one.first for one in chosen]
        for one, values, right in zip(chosen, torch.split(terms, counts), torch.split(best, counts), strict=True):
            log_probs[one.text][one.first : one.end] = values
            hits[one.text][one.first : one.end] = right
        done += sum(counts)
        if progress is not None:
            progress(done, total)
    return [Predicted(*pair) for pair in zip(log_probs, hits, strict=True)]


def _of_targets(model: GPT, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target (T,) after hidden states (T, E), and whether it is the most probable one."""
    rows = max(1, BLOCK // model.output.weight.shape[0])
    terms, hits = [], []
    for states, wanted in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
        logits = model.output(states).float()  # (rows, V)
        best = logits.argmax(1)
        terms.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(1))
        hits.append(best == wanted)
    return torch.cat(terms).cpu(), torch.cat(hits).cpu()
