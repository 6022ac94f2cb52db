"""How far the past reaches: gradients of what a model makes of a source, with respect to each of its embeddings.

A gradient that dies away with distance is why a recurrent model learns nothing from far back, one that grows is why its
training blows up (Bengio et al. 1994; Pascanu et al. 2013, "On the Difficulty of Training Recurrent Neural Networks").
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.models.encoder_decoder import EncoderDecoder
from regard.runs.compare.modes import kept_mode
from regard.runs.compare.results import Reach, ReachPoint
from regard.tasks.translation import Specials, TranslationBatch, collate

DIRECTIONS = 8  # random directions that stand for all of the encoder's state
LEAST = 5  # values that a median is made of; distances with fewer are left out
SINGLE = 32  # distances below are kept apart; beyond they are pooled, in as many steps an octave
STEPS = 16
ROWS = 64  # copies of a sentence that are computed together

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many sentences are done, and of how many."""


def measure_reach(
    model: EncoderDecoder,
    pairs: Pairs,
    specials: Specials,
    device: torch.device,
    progress: Progress | None = None,
) -> Reach:
    """Measure gradients over sentence pairs; the model, its gradients and all random generators stay as they are.

    With embeddings x_1 … x_S of a source that ends with `<eos>`, r(j) when the encoder reads x_j (`reading_order`; j
    unless the model reverses its source), and l the position that it reads last:

    - encoder, by distance r(l) − r(j): ‖∂h_l/∂x_j‖_F, the Frobenius norm of the Jacobian of the encoder's state at the
      position read last. It is estimated: with k = 8 orthogonal directions u of length √(W/k), drawn from a fixed seed,
      the expectation of Σ‖(∂h_l/∂x_j)ᵀu‖² is ‖∂h_l/∂x_j‖²_F, and for W ≤ 8 the two are equal. Of a bidirectional
      encoder, the half that reads the other way has seen x_l alone at this place, so what is measured further back is
      the forward half.
    - output, by distance r(l) − r(j) + t: ‖∂ log p(y_t | y_<t, x)/∂x_j‖, exact, for each reference token y_0 … y_T =
      `<eos>`. The distance is the way through time of a model that reads the source and then says the target.

    Dropout is off. Norms are of the embeddings as the encoder gets them, whose scale is a model's own: compare how the
    curves of two models fall, not how high they begin.

    Args:
        model: on `device`.
        pairs: token ids of sources and targets, without special tokens.
        specials: the special tokens.
        device: of the model.
        progress: is told how far it is.

    Returns:
        Median and quartiles of the norms by distance, over sentences (and target positions). Distances from 32 on are
        pooled, 16 groups in each doubling, each named by its middle; those with fewer than 5 values are left out.
    """
    report = progress or (lambda what, done, of: None)
    generator = torch.Generator().manual_seed(1)
    encoder: dict[int, list[float]] = {}
    output: dict[int, list[float]] = {}
    # cuDNN's recurrent layers refuse a backward pass in evaluation mode; torch's own take its place
    with kept_mode(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        model.eval()
        for done, (source, target) in enumerate(pairs):
            report("measuring gradients", done, len(pairs))
            batch = collate([source], [target], specials, device)
            order = model.reading_order(batch.sources.lengths, batch.sources.tokens.shape[1])[0]  # (S,)
            last = int(order.argmax())
            back = (order[last] - order).tolist()  # tokens read since each position
            for distance, norm in zip(back, _encoder_norms(model, batch, last, generator).tolist(), strict=True):
                encoder.setdefault(group(distance), []).append(norm)
            for t, norms in enumerate(_output_norms(model, batch).tolist()):
                for distance, norm in zip(back, norms, strict=True):
                    output.setdefault(group(distance + t), []).append(norm)
        report("measuring gradients", len(pairs), len(pairs))
    return Reach(_points(encoder), _points(output))


def group(distance: int) -> int:
    """The distance that stands for this one: itself below 32, then the middle of its group."""
    if distance < SINGLE:
        return distance
    width = (1 << (distance.bit_length() - 1)) // STEPS
    return distance - distance % width + width // 2


def _encoder_norms(model: EncoderDecoder, batch: TranslationBatch, last: int, generator: torch.Generator) -> Tensor:
    """Estimated norms of the Jacobians of the encoder's state at position `last`, (S,)."""
    embedded, lengths = _copies(model, batch, DIRECTIONS)
    states = model.encode(embedded, lengths).states[:, last]  # (k, W)
    (gradient,) = torch.autograd.grad(states, embedded, _directions(states, generator))  # (k, S, E)
    return _norms(gradient.transpose(0, 1).flatten(1))


def _directions(like: Tensor, generator: torch.Generator) -> Tensor:
    """Orthogonal directions in random position, as `like` (k, W), the sum of whose u uᵀ has the identity as its mean.

    There are no more than W of them; the other rows are zero.
    """
    rows, width = like.shape
    basis, _ = torch.linalg.qr(
        torch.randn(width, min(rows, width), generator=generator, dtype=torch.float64)
    )  # (W, ≤ k)
    count = basis.shape[1]
    return F.pad(basis.T * math.sqrt(width / count), (0, 0, 0, rows - count)).to(like)


def _output_norms(model: EncoderDecoder, batch: TranslationBatch) -> Tensor:
    """Norms of the gradients of each reference token's log-probability, (T, S).

    A copy of the sentence for each token gives all gradients in one backward pass, whatever the model is made of.
    """
    return torch.cat([_some_norms(model, batch, rows) for rows in _parts(batch.inputs.shape[1])])


def _some_norms(model: EncoderDecoder, batch: TranslationBatch, rows: range) -> Tensor:
    embedded, lengths = _copies(model, batch, len(rows))
    targets = batch.inputs[:, : rows.stop].expand(len(rows), -1)  # what comes later changes nothing
    hidden = model.decode(model.encode(embedded, lengths), targets)  # (R, ≤ T, ·)
    positions = torch.arange(rows.start, rows.stop, device=hidden.device)
    logits = model.output(hidden[torch.arange(len(rows), device=hidden.device), positions])  # (R, V)
    log_probs = logits.log_softmax(-1).gather(-1, batch.outputs[0, positions, None])
    (gradient,) = torch.autograd.grad(log_probs.sum(), embedded)  # (R, S, E)
    return _norms(gradient)


def _norms(vectors: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(vectors.cpu().double(), dim=-1)
    return norms


def _parts(count: int) -> Iterator[range]:
    for start in range(0, count, ROWS):
        yield range(start, min(start + ROWS, count))


def _copies(model: EncoderDecoder, batch: TranslationBatch, count: int) -> tuple[Tensor, Tensor]:
    """The embedded source as leaves (R, S, E), and its lengths (R,)."""
    with torch.no_grad():
        embedded = model.embed(batch.sources.tokens)  # (1, S, E)
    return embedded.repeat(count, 1, 1).requires_grad_(), batch.sources.lengths.repeat(count)


def _points(values: dict[int, list[float]]) -> tuple[ReachPoint, ...]:
    points = []
    for distance in sorted(values):
        norms = torch.tensor(values[distance], dtype=torch.float64)
        if len(norms) >= LEAST:
            lower, median, upper = norms.quantile(norms.new_tensor([0.25, 0.5, 0.75])).tolist()
            points.append(ReachPoint(distance, median, lower, upper, len(norms)))
    return tuple(points)
