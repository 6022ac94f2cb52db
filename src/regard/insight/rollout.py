"""Attention roll-out (Abnar & Zuidema 2020): what a position gathers of each input, through all layers.

The vector of a position is followed from the last layer down, so a product of whole maps is never made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.errors import ArgumentError
from regard.insight.reading import Numbers, Reading, check_positions, numbers, plain, texts_of
from regard.insight.tokens import Tokens


@dataclass(frozen=True, eq=False)
class RollOut:
    """How much of each input of a model is in some positions after its last layer, if attention mixes as it says.

    Attributes:
        sequence: whose positions.
        positions: N of them, from 0.
        residual: the share that the residual connection keeps in each layer.
        layers: the attentions gone through, first one first.
        shares: of each sequence that is read, (N, L): the share of each of its L inputs in each position.
        lost: (N,), what is missing to 1: it went to sinks, or to rows that see nothing.
        tokens: what stands at the positions of each sequence; None where that isn't known.
        encoded: of the sequences, those that others read and whose own attention isn't among the layers: shares are of
            what came out of their encoder, not of its inputs.
    """

    sequence: str
    positions: tuple[int, ...]
    residual: float
    layers: tuple[str, ...]
    shares: Mapping[str, Numbers]
    lost: Numbers
    tokens: Mapping[str, Tokens | None]
    encoded: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`."""
        return {
            "sequence": self.sequence,
            "positions": list(self.positions),
            "residual": self.residual,
            "layers": list(self.layers),
            "shares": {name: plain(x) for name, x in self.shares.items()},
            "lost": plain(self.lost),
            "encoded": list(self.encoded),
            "tokens": {name: texts_of(self.tokens[name], x.shape[1]) for name, x in self.shares.items()},
        }


def roll_out(
    readings: Sequence[Reading], positions: Sequence[int], *, sequence: str | None = None, residual: float = 0.5
) -> RollOut:
    """Follow positions from the last layer down to the inputs.

    Each attention is a residual block, x ← r·x + (1 − r)·P̄·y, where P̄ is the mean of its heads' maps, r the share of
    the residual connection, and y is x itself or, in cross-attention, the other sequence: equation 1 of Abnar & Zuidema
    2020 with r = ½, Ã = ½·P̄ + ½·I, whose product over layers is the roll-out. Feed-forward layers mix nothing. In an
    encoder–decoder, a decoder layer's self- and cross-attention are two such blocks, and what cross-attention gathers
    of the encoder's output goes on down through the encoder; so the shares are of source and of target inputs.

    Memory is linear in length for each position: layer by layer, v ← r·v + (1 − r)·P̄ᵀ·v.

    Args:
        readings: in the order of the model, the encoder's before the decoder's.
        positions: of the sequence, negative ones from its end.
        sequence: whose positions; None: that of the last reading's rows.
        residual: r, from 0 to 1.

    Returns:
        Shares that add up to 1, less what is `lost`: a row with a sink hands on less than it has. (The paper has no
        such rows; nothing is renormalised.)

    Raises:
        ArgumentError: no readings, positions outside the sequence, r outside 0 to 1; a self-attention whose rows are
            not its columns, as in one step of generation; sequences whose length changes from layer to layer, or that
            are read before they are finished.
    """
    if not readings:
        raise ArgumentError("readings is empty, expected one attention at least")
    if not 0 <= residual <= 1:
        raise ArgumentError(f"residual is {residual}, expected the share of the residual connection, from 0 to 1")
    sequence = readings[-1].role.queries if sequence is None else sequence
    lengths = _lengths(readings)
    if sequence not in {one.role.queries for one in readings}:
        raise ArgumentError(f"sequence is {sequence!r}, expected one of {', '.join(lengths)}")
    _check_order(readings)
    chosen = check_positions("positions", positions, lengths[sequence])
    # of each sequence reached so far, what its positions hold of the chosen ones, (L, N)
    device, dtype = readings[-1].table.scoring.extent.device, readings[-1].table.scoring.dtype
    start = torch.zeros(lengths[sequence], len(chosen), device=device, dtype=dtype)
    start[list(chosen), range(len(chosen))] = 1.0
    vectors: dict[str, Tensor] = {sequence: start}
    gone_through, tokens = [], {}
    crossed, mixed = dict[str, None](), set[str]()  # sequences that others read, and that read themselves
    for one in reversed(readings):
        role = one.role
        if role.queries not in vectors:
            continue
        x = vectors[role.queries]
        gathered = one.table.apply_transposed(x.to(one.table.scoring.extent.device, one.table.scoring.dtype))
        gathered = (1 - residual) * gathered[0].mean(0).to(x.device, x.dtype)  # of all heads: (K, N)
        vectors[role.queries] = residual * x
        vectors[role.keys] = vectors[role.keys] + gathered if role.keys in vectors else gathered
        gone_through.append(one.name)
        if one.diagonal:
            mixed.add(role.keys)
        else:
            crossed[role.keys] = None
        tokens[role.queries], tokens[role.keys] = one.queries, one.keys
    shares = {name: numbers(x.T) for name, x in vectors.items()}
    total = torch.stack([x.cpu().double().sum(0) for x in vectors.values()]).sum(0)
    lost = numbers((1 - total).clamp(min=0))
    encoded = tuple(name for name in crossed if name not in mixed)
    return RollOut(sequence, chosen, float(residual), tuple(reversed(gone_through)), shares, lost, tokens, encoded)


def _lengths(readings: Sequence[Reading]) -> dict[str, int]:
    """Of each sequence."""
    lengths: dict[str, int] = {}
    for one in readings:
        queries, keys = one.table.shape[2:]
        if one.diagonal and queries != keys:
            raise ArgumentError(
                f"{one.name!r} has {queries} rows and {keys} columns of {one.role.keys!r}: a roll-out needs the whole "
                "sequence in both, not a step of a generation"
            )
        for name, length in ((one.role.queries, queries), (one.role.keys, keys)):
            if lengths.setdefault(name, length) != length:
                raise ArgumentError(
                    f"{one.name!r} has {length} positions of {name!r}, an attention before it {lengths[name]}: a "
                    "roll-out needs layers of one length"
                )
    return lengths


def _check_order(readings: Sequence[Reading]) -> None:
    """A sequence that others have read may not change afterwards: they read what came out of its last layer."""
    read: dict[str, str] = {}
    for one in readings:
        if one.role.queries in read:
            raise ArgumentError(
                f"{one.name!r} of {one.role.queries!r} comes after {read[one.role.queries]!r}, which reads that "
                "sequence: expected readings in the order of the model"
            )
        if not one.diagonal:
            read[one.role.keys] = one.name
