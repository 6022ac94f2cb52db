"""How attention is doing in training, as plain numbers for a log: entropy and sinks of each head."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from regard.attention import AttentionMap
from regard.errors import ArgumentError
from regard.insight.visible_keys import visible_keys

MEASURES = ("entropy", "relative_entropy", "first_key", "sink", "focused")


def attention_health(
    maps: Mapping[str, AttentionMap],
    *,
    real: Mapping[str, Tensor] | None = None,
    heads: bool = True,
    focused_below: float = 0.1,
    prefix: str = "attention",
) -> dict[str, float]:
    """Numbers that show heads collapsing, or never starting to choose.

    Each is a mean over the queries of all batch elements that are real and see a key:

    - "entropy", in nats, of the weights normalised to sum 1; "relative_entropy", divided by ln of the number of keys
      that the query sees, over queries that see two or more: 1 is uniform, 0 one key alone;
    - "first_key", the mass on the first key that can be seen (of each batch element): the sinks that models grow by
      themselves (Xiao et al. 2024); "sink", the mass that reaches no key: of a sink logit, or outside a factor;
    - "focused", the share of queries with an entropy below `focused_below`, though they see two keys or more.

        attention_health(recording)["attention/decoder.layers.0.cross/entropy_mean"]

    Args:
        maps: by name, each of a whole batch.
        real: of some maps, which queries are no padding, (B, Q); the others count all that see a key.
        heads: whether each head is among the numbers, beside the mean of the heads.
        focused_below: in nats.
        prefix: of all names.

    Returns:
        "prefix/map/measure_mean" → number, and "prefix/map/measure/head_0" and so on, counting the heads of the map. A
        map of which no query counts has none; numbers that aren't finite, of weights that aren't, are left out.

    Raises:
        ArgumentError: `real` has a name that isn't in `maps`, or another shape.
    """
    strangers = sorted(set(real or ()) - maps.keys())
    if strangers:
        raise ArgumentError(f"real has {strangers[0]!r}, which is no map; there are: {', '.join(maps)}")
    found: dict[str, float] = {}
    with torch.no_grad():
        for name, table in maps.items():
            for measure, of_heads in _measures(name, table, (real or {}).get(name), focused_below).items():
                found[f"{prefix}/{name}/{measure}_mean"] = sum(of_heads) / len(of_heads)
                if heads:
                    found |= {f"{prefix}/{name}/{measure}/head_{head}": one for head, one in enumerate(of_heads)}
    return {name: one for name, one in found.items() if math.isfinite(one)}


def _measures(name: str, table: AttentionMap, real: Tensor | None, focused_below: float) -> dict[str, list[float]]:
    """Each measure of each head; nothing if no query counts."""
    scoring, sizes = table.scoring, table.scoring.extent
    whole = sizes.batch, sizes.heads, sizes.queries
    visible = visible_keys(scoring).expand(whole)
    counts = visible > 0
    if real is not None:
        if tuple(real.shape) != (sizes.batch, sizes.queries) or real.dtype != torch.bool:
            raise ArgumentError(
                f"real[{name!r}] is {tuple(real.shape)} {real.dtype}, expected {(sizes.batch, sizes.queries)} bool"
            )
        counts = counts & real.to(sizes.device)[:, None]
    if not bool(counts.any()):
        return {}
    entropy = table.entropy().reshape(whole)
    whole_rows = scoring.sink is None and scoring.factor is None
    missing = torch.zeros_like(entropy) if whole_rows else (1 - table.mass().reshape(whole)).clamp(min=0)
    seen = scoring.visibility.seen_keys(sizes.queries, sizes.keys, sizes.device).any(1).to(torch.uint8)  # (B or 1, K)
    first = torch.zeros(sizes.batch, 1, sizes.keys, 1, dtype=scoring.dtype, device=sizes.device)
    first.scatter_(2, seen.argmax(-1).expand(sizes.batch)[:, None, None, None], 1.0)
    given = first.expand(-1, sizes.heads, -1, -1).reshape(*table.shape[:-2], sizes.keys, 1)
    on_first = table.apply(given).reshape(whole)
    choice = counts & (visible > 1)
    relative = entropy / visible.clamp(min=2).to(entropy.dtype).log()
    return {
        "entropy": _mean(entropy, counts),
        "relative_entropy": _mean(relative, choice),
        "first_key": _mean(on_first, counts),
        "sink": _mean(missing, counts),
        "focused": _mean((entropy < focused_below).to(entropy.dtype), choice),
    }


def _mean(x: Tensor, counts: Tensor) -> list[float]:
    """Of x (B, H, Q) over batch elements and queries that count, for each head; 0 where none does."""
    total = x.masked_fill(~counts, 0.0).cpu().sum((0, 2), dtype=torch.float64)
    mean: list[float] = (total / counts.cpu().sum((0, 2)).clamp(min=1)).tolist()
    return mean
