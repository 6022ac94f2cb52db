"""How the time of a token changes as sentences grow: training, and decoding step by step."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor

from regard.models.encoder_decoder import EncoderDecoder
from regard.runs.compare.modes import kept_mode
from regard.runs.compare.results import LengthSpeed
from regard.tasks.translation import Specials, TranslationBatch, collate, translation_loss
from regard.training import preserved_random

LENGTHS = (8, 16, 32, 64, 128, 256)
SENTENCES = 16  # that are decoded together


def measure_speed(
    model: EncoderDecoder,
    specials: Specials,
    lengths: Sequence[int] = LENGTHS,
    tokens: int = 2048,
    rounds: int = 3,
) -> tuple[LengthSpeed, ...]:
    """Measure microseconds a target token on random tokens; medians of `rounds`, after one that isn't counted.

    A training step is forward and backward, dropout included, of `tokens` target tokens (at least one sentence), so
    that batches have the same size whatever the length. Decoding is greedy, 16 sentences together, and goes on to the
    full length whatever is said; reading the source is part of its time. `length` counts `<eos>`.

    The model's mode, its gradients and all random generators stay as they are.

    Args:
        model: on its device.
        specials: the special tokens, which are not among the random ones.
        lengths: of source and target; those beyond the model's positions are left out.
        tokens: target tokens of a training batch.
        rounds: how often each is measured.
    """
    results, device = [], model.output.weight.device
    with kept_mode(model), preserved_random():
        for length in sorted(lengths):
            if length > model.config.max_length:
                continue
            training = _batch(model, specials, max(1, tokens // length), length)
            decoding = _batch(model, specials, SENTENCES, length)
            model.train()
            train_time = _time(partial(_train, model, training), rounds, device)
            model.eval()
            decode_time = _time(partial(_decode, model, decoding), rounds, device)
            results.append(LengthSpeed(length, 1e6 * train_time / training.count, 1e6 * decode_time / decoding.count))
    return tuple(results)


def _batch(model: EncoderDecoder, specials: Specials, rows: int, length: int) -> TranslationBatch:
    """Random sentences of `length` tokens on both sides, `<eos>` included."""
    generator = torch.Generator().manual_seed(length)
    config, device = model.config, model.output.weight.device
    source = _random(config.source_vocabulary, {specials.source_pad, specials.source_eos}, rows, length - 1, generator)
    target = _random(config.target_vocabulary, {specials.pad, specials.bos, specials.eos}, rows, length - 1, generator)
    return collate(source, target, specials, device)


def _random(vocabulary: int, without: set[int], rows: int, length: int, generator: torch.Generator) -> list[list[int]]:
    allowed = torch.tensor([token for token in range(vocabulary) if token not in without])
    ids: list[list[int]] = allowed[torch.randint(len(allowed), (rows, length), generator=generator)].tolist()
    return ids


def _train(model: EncoderDecoder, batch: TranslationBatch) -> None:
    loss, _ = translation_loss(model, batch, 0.0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    torch.autograd.grad(loss, parameters, allow_unused=True)


def _decode(model: EncoderDecoder, batch: TranslationBatch) -> None:
    with torch.inference_mode():
        state = model.start(batch.sources.tokens, batch.sources.lengths)
        said: Tensor = batch.inputs[:, 0]
        for _ in range(batch.inputs.shape[1]):
            log_probs, state = model.step(said, state)
            said = log_probs.argmax(-1)


def _time(work: Callable[[], None], rounds: int, device: torch.device) -> float:
    """Seconds that `work` takes: the median, after a first time for what is only done once."""
    seconds = []
    for _ in range(rounds + 1):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _wait(device: torch.device) -> None:
    """Accelerators work on after a call returns."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
