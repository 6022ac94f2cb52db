"""Several trained models as one translator."""

from collections.abc import Sequence

from regard.errors import ArgumentError
from regard.runs.translator import Translator


def ensemble(translators: Sequence[Translator], weights: Sequence[float] | None = None) -> Translator:
    """One translator of several, which translates and scores by the mean of their probabilities.

    Its decoding defaults, and its attention, are those of the first. See `regard.decoding.Ensemble`.

    Args:
        translators: with the same tokenizers and special tokens, on the same device.
        weights: in the mean, positive; equal if not given.

    Raises:
        ArgumentError: there is no translator; tokenizers, special tokens or devices differ, the message has the
            translator's number, from 1; the weights don't fit.
    """
    if not translators:
        raise ArgumentError("an ensemble of no translators; expected one at least")
    shares = [1.0] * len(translators) if weights is None else list(weights)
    if len(shares) != len(translators):
        raise ArgumentError(f"{len(translators)} translators and {len(shares)} weights; expected as many")
    first, *others = translators
    for number, other in enumerate(others, start=2):
        ours, theirs = first.tokenizers, other.tokenizers
        for side, one, two in (("source", ours.source, theirs.source), ("target", ours.target, theirs.target)):
            if one.content != two.content:
                raise ArgumentError(
                    f"ensemble: model {number} has another {side} tokenizer than model 1; expected the same "
                    "(train with training.init_from, or with tokenizer.file)"
                )
        if other.frame != first.frame:
            raise ArgumentError(f"ensemble: model {number} has other special tokens around texts than model 1")
        if other.device != first.device:
            raise ArgumentError(f"ensemble: model {number} is on {other.device}; expected {first.device}, as model 1")
    models = [model for each in translators for model in each.models]
    return Translator(
        models[0],
        first.tokenizers,
        first.decoding,
        models[1:],
        [share * own for each, share in zip(translators, shares, strict=True) for own in each.weights],
        first.frame,
    )
