"""What each head of a model does in general: how spread it looks, and at what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.attention.distances import by_distance
from regard.errors import ArgumentError
from regard.insight.reading import Numbers, Reading, numbers, plain, special_of, texts_of
from regard.insight.tokens import Kind
from regard.insight.visible_keys import visible_keys

MEASURES: Mapping[str, str] = {
    "entropy": "entropy (nats)",
    "relative_entropy": "entropy / ln(visible keys)",
    "first": "mass on the first key",
    "special": "mass on special tokens",
    "itself": "mass on itself",
    "previous": "mass on the one before",
    "next": "mass on the one after",
    "sink": "mass in the sink",
}
"""The measures and what pictures call them."""


@dataclass(frozen=True)
class Received:
    """A key and the mean weight that queries give it.

    Attributes:
        position: of the key.
        text: what stands there.
        share: what it receives of a query, in the mean over queries that count.
    """

    position: int
    text: str
    share: float


@dataclass(frozen=True, eq=False)
class LayerSummary:
    """The heads of one attention.

    Attributes:
        name: the module's path.
        kind: "self", "causal" or "cross".
        rows: how many queries the means are over.
        measures: of each of `MEASURES`, (H,): a mean over queries; None where it means nothing here.
        edges: limits of distances, see `AttentionMap.by_distance`; empty for cross-attention.
        distances: (H, len(edges) + 1), the mass at each range of distances; None for cross-attention.
        received: of each head, the keys that receive most, most first.
        head_numbers: which of the model's heads these are.
    """

    name: str
    kind: Kind
    rows: int
    measures: Mapping[str, Numbers | None]
    edges: tuple[int, ...]
    distances: Numbers | None
    received: tuple[tuple[Received, ...], ...]
    head_numbers: tuple[int, ...]

    @property
    def heads(self) -> int:
        """H."""
        return len(self.received)


@dataclass(frozen=True)
class HeadSummary:
    """The heads of a model, attention by attention in its order."""

    layers: tuple[LayerSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dump`."""
        return {
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "rows": layer.rows,
                    "heads": list(layer.head_numbers),
                    "measures": {name: None if x is None else plain(x) for name, x in layer.measures.items()},
                    "distances": None
                    if layer.distances is None
                    else {
                        "ranges": [distance_label(layer.edges, n) for n in range(len(layer.edges) + 1)],
                        "edges": list(layer.edges),
                        "mass": plain(layer.distances),
                    },
                    "received": [[vars(one) for one in head] for head in layer.received],
                }
                for layer in self.layers
            ]
        }


def summarise_heads(readings: Sequence[Reading], *, keys: int = 8) -> HeadSummary:
    """Summarise each head of each attention, in memory linear in length.

    All are means over the n queries that count (`Reading.counted`), of a query's weights p:

    - entropy −Σ p ln p of the weights normalised to sum 1; relative entropy: divided by ln of the number of keys that
      the query sees, over queries that see two or more, so that 1 is "spread evenly over everything it can see";
    - mass on the first key that can be seen at all, on special tokens, on the query's own place, the place before it
      and the one after it (not in cross-attention, where places don't correspond; none is after it in causal
      attention), in the sink (1 − Σ p, where there is one);
    - the mass at each distance, in ranges that double; a positive distance is a key before the query;
    - the keys that receive most, Σ_i p_ij / n.

    Args:
        readings: of one batch element.
        keys: how many of the most received keys.

    Raises:
        ArgumentError: there is no reading, or `keys` is below 1.
    """
    if not readings:
        raise ArgumentError("readings is empty, expected one attention at least")
    if isinstance(keys, bool) or not isinstance(keys, int) or keys < 1:
        raise ArgumentError(f"keys is {keys!r}, expected how many of the most received keys, 1 or more")
    with torch.no_grad():
        return HeadSummary(tuple(_layer(one, keys) for one in readings))


def distance_label(edges: Sequence[int], number: int) -> str:
    """What a range of distances is called: "≤ −8", "−7 … −4", "0", "2 … 3", "≥ 64"."""
    first = edges[number - 1] if number else None
    last = edges[number] - 1 if number < len(edges) else None
    if first is None or last is None:
        return f"≤ {_signed(last)}" if last is not None else f"≥ {_signed(first)}"
    return _signed(first) if first == last else f"{_signed(first)} … {_signed(last)}"


def _signed(x: int | None) -> str:
    return str(x).replace("-", "−")


def _layer(one: Reading, most: int) -> LayerSummary:
    table, device = one.table, one.table.scoring.extent.device
    sizes = table.scoring.extent
    keys, count = sizes.keys, int(one.counted.sum())
    # what each query counts in the means
    share = torch.as_tensor(one.counted.copy(), device=device).to(table.scoring.dtype) / max(1, count)  # (Q,)
    entropy = table.entropy()[0]  # (H, Q)
    marked = torch.zeros(keys, 2, device=device, dtype=table.scoring.dtype)
    marked[first_key(table.scoring.visibility.seen_keys(sizes.queries, keys, device)), 0] = 1.0
    marked[:, 1] = torch.as_tensor(special_of(one.keys, keys), device=device)
    on_marked = torch.einsum("hqf,q->fh", table.apply(marked)[0], share)
    everything = one.counted.all()
    received = table.received()[0] / max(1, count) if everything else table.apply_transposed(share[:, None])[0, :, :, 0]
    measures: dict[str, Numbers | None] = {
        "entropy": numbers(entropy @ share),
        "relative_entropy": numbers(_relative(entropy, visible_keys(table.scoring)[0], share)),
        "first": numbers(on_marked[0]),
        "special": None if one.keys is None else numbers(on_marked[1]),
        "itself": None,
        "previous": None,
        "next": None,
        "sink": None,
    }
    if table.scoring.sink is not None:
        measures["sink"] = numbers((1 - table.mass()[0]) @ share)
    edges: tuple[int, ...] = ()
    distances = None
    if one.diagonal:
        edges = _edges(keys, both_ways=one.role.kind != "causal")
        at = by_distance(table.scoring, edges, share[None, None])[0]  # (H, ranges)
        for name, distance in (("itself", 0), ("previous", 1), ("next", -1)):
            if distance >= 0 or one.role.kind != "causal":
                measures[name] = numbers(at[:, edges.index(distance) + 1])
        distances = numbers(at)
    most_received = _most(received, one, most)
    return LayerSummary(one.name, one.role.kind, count, measures, edges, distances, most_received, one.head_numbers)


def first_key(seen: Tensor) -> Tensor:
    """The first key that any head lets any query see, of flags (1, H or 1, K)."""
    return seen.flatten(0, 1).any(0).to(torch.uint8).argmax()


def _relative(entropy: Tensor, visible: Tensor, share: Tensor) -> Tensor:
    """Mean of entropy (H, Q) over ln of visible (H or 1, Q) keys, where there is a choice: (H,)."""
    choice = (visible > 1).to(share.dtype) * share
    relative = entropy / visible.clamp(min=2).to(entropy.dtype).log()
    return (relative * choice).sum(-1) / choice.sum(-1).clamp(min=torch.finfo(share.dtype).tiny)


def _edges(keys: int, *, both_ways: bool) -> tuple[int, ...]:
    """… −7 −3 −1 0 1 2 4 8 …, as far as there are keys; backwards only to tell the next one from those beyond it."""
    ahead = [2**n for n in range(max(1, (keys - 1).bit_length()))]
    back = [1 - 2 * n for n in ahead] if both_ways else [-1]
    return (*reversed(back), 0, *ahead)


def _most(received: Tensor, one: Reading, most: int) -> tuple[tuple[Received, ...], ...]:
    texts = texts_of(one.keys, received.shape[-1])
    order = received.sort(dim=-1, descending=True, stable=True)
    heads = zip(order.values[:, :most].tolist(), order.indices[:, :most].tolist(), strict=True)
    return tuple(
        tuple(
            Received(at, texts[at], float(f"{share:.6g}"))
            for share, at in zip(shares, places, strict=True)
            if share > 0
        )
        for shares, places in heads
    )
