"""Everything that determines the table of attention weights, checked once and in one layout; and blocks of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.attention.biases import Bias, Factor, Given
from regard.attention.extent import Extent, shape
from regard.attention.masks import Mask
from regard.attention.modes import readable, transformed
from regard.attention.operands import Operand, Region
from regard.attention.pairs import PAIRS
from regard.attention.precision import fitted, own_precision
from regard.attention.scores import Form, Lifted, Score, check_number
from regard.attention.support import check_supported
from regard.attention.visibility import EVERYTHING, Visibility
from regard.errors import ArgumentError

# Elements of one block of scores: 2¹⁸ float32 are 1 MiB, so that a block and its temporaries stay in a core's cache.
BLOCK = 1 << 18

# Keys and values below this cannot make a product with a query infinite in float32, as long as that is below it too.
HARMLESS = 1e15

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Scoring:
    """A table of attention weights, before anything of it is computed; all tensors with four axes.

    The table is s = softcap(pairs(q, k)) + bias where visible and −∞ elsewhere; ℓ is the log-sum-exp of a row of s; the
    weights are exp(s − ℓ), times σ(ℓ − sink) with a sink, times the factor where there is one. What a row of them sums
    to is its mass.

    Attributes:
        form: how scores are made of q and k.
        operands: every tensor that the weights are made of: "q" (B, H, Q, ·), "k" (B, G, K, ·), "weight" of the
            additive form, "sink" (1, H, 1, 1), and those of bias and factor under "bias." and "factor.".
        scale: factor of the inner product.
        visibility: which keys can be seen.
        bias: what is added to the scores; never −∞ (that has become a part of the visibility).
        factor: what the weights are multiplied by.
        softcap: c of c · tanh(s / c) or None.
        extent: sizes and the caller's layout.
    """

    form: Form
    operands: dict[str, Operand]
    scale: float
    visibility: Visibility
    bias: Bias | None
    factor: Factor | None
    softcap: float | None
    extent: Extent

    @property
    def q(self) -> Tensor:
        """Lifted queries (B, H, Q, ·)."""
        return self.operands["q"].tensor

    @property
    def k(self) -> Tensor:
        """Lifted keys (B, G, K, ·)."""
        return self.operands["k"].tensor

    @property
    def sink(self) -> Tensor | None:
        """Logits of the sinks (1, H, 1, 1), or None."""
        return self.operands["sink"].tensor if "sink" in self.operands else None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of scores and statistics: float32, or float64 for float64 queries."""
        return self.extent.dtype

    @property
    def share(self) -> int:
        """H / G, the query heads of a key head."""
        return self.extent.heads // max(1, self.extent.groups)

    def parts(self, region: Region) -> dict[str, Tensor]:
        """What a block of the table needs of each operand."""
        return {name: operand.part(region, self.share) for name, operand in self.operands.items()}

    def scores_from(self, parts: Mapping[str, Tensor], rows: slice, columns: slice) -> Tensor:
        """The block of s for some queries and keys: (B, H, rows, columns), at least float32, masked places −∞.

        Args:
            parts: what the block needs of the operands; they may be leaves of a graph of their own.
            rows: queries, with start and stop set.
            columns: keys, with start and stop set.
        """
        dtype = self.dtype
        wide = {name: parts[name].to(dtype) for name in ("q", "k", "weight") if name in parts}
        s = PAIRS[self.form](wide, self.scale)
        if self.softcap is not None:
            s = torch.tanh(s / self.softcap) * self.softcap
        if self.bias is not None:
            s = s + fitted(self.bias.block(named("bias.", parts), rows, columns, self.extent), dtype)
        return self._barred(s, rows, columns)

    def _barred(self, s: Tensor, rows: slice, columns: slice) -> Tensor:
        """Put −∞ where nothing may be seen."""
        device = self.extent.device
        if torch.is_grad_enabled() or transformed() or torch.compiler.is_compiling():
            visible = self.visibility.block(rows, columns, device)
            return s if visible is None else s.masked_fill(~visible, -torch.inf)
        for edge in self.visibility.edges(rows, columns):  # in place: s belongs to nobody else
            visible = self.visibility.block(rows, edge, device)
            if visible is not None:
                s[..., edge.start - columns.start : edge.stop - columns.start].masked_fill_(~visible, -torch.inf)
        return s

    def factors_from(self, parts: Mapping[str, Tensor], rows: slice, columns: slice) -> Tensor | None:
        """What the weights of a block are multiplied by, broadcastable to (B, H, rows, columns); None is 1."""
        if self.factor is None:
            return None
        return self.factor.block(named("factor.", parts), rows, columns, self.extent).to(self.dtype)

    def region(self, rows: slice, columns: slice) -> Region:
        """Some queries and keys of all heads and batch elements."""
        return Region(slice(0, self.extent.batch), slice(0, self.extent.heads), rows, columns)

    def blocks(self, rows: slice, size: int | None = None) -> Iterator[Region]:
        """Regions that cover the queries `rows`, whole rows, in blocks of about `size` scores, or `BLOCK`.

        More than 2¹⁴ keys make blocks of 16 rows, and so larger ones. Heads stay together with those that share their
        keys. The columns leave out keys that no row of a block sees.
        """
        sizes, size = self.extent, BLOCK if size is None else size
        count, keys = max(1, rows.stop - rows.start), max(1, sizes.keys)
        tall = min(count, 64)  # rows enough for a matrix product, if the block allows
        heads = self.share * max(1, min(sizes.groups, size // (keys * tall * self.share)))
        batch = max(1, min(sizes.batch, size // (keys * tall * sizes.heads)))
        # what is done for each key once a block, such as adding up its gradient, must not outweigh the rows
        step = max(1, size // (keys * heads * batch), (size >> 14) // (heads * batch))
        for b in range(0, sizes.batch, batch):
            for h in range(0, sizes.heads, heads):
                at = slice(b, min(b + batch, sizes.batch)), slice(h, min(h + heads, sizes.heads))
                seen = self.visibility.crop(*at)
                for r in range(rows.start, rows.stop, step):
                    block = slice(r, min(r + step, rows.stop))
                    yield Region(*at, block, seen.columns(block, sizes.keys))

    def crop(self, batch: slice, heads: slice) -> "Scoring":
        """The same table for some batch elements and heads (slices with start and stop set)."""
        sizes = self.extent
        if (batch.start, batch.stop, heads.start, heads.stop) == (0, sizes.batch, 0, sizes.heads):
            return self
        whole = Region(batch, heads, slice(0, sizes.queries), slice(0, sizes.keys))
        operands = {n: Operand(x, self.operands[n].kind) for n, x in self.parts(whole).items()}
        count, n = batch.stop - batch.start, heads.stop - heads.start
        groups = operands["k"].tensor.shape[1]
        return replace(
            self,
            operands=operands,
            visibility=self.visibility.crop(batch, heads),
            extent=replace(sizes, leading=(count, n), batch=count, heads=n, groups=groups),
        )


def build_scoring(
    q: Tensor,
    k: Tensor,
    score: Score,
    mask: Mask | None,
    bias: Bias | Tensor | None,
    factor: Factor | Tensor | None,
    softcap: float | None,
    sink: Tensor | None,
) -> Scoring:
    """Check the arguments of `attend` that determine the weights and bring them to one layout.

    Raises:
        ArgumentError: an argument has a wrong type, shape, dtype, device or value.
        UnsupportedError: a combination of the table in `support`.
    """
    for name, x in (("q", q), ("k", k)):
        check_tensor(name, x)
    if q.dtype != k.dtype or q.device != k.device:
        raise ArgumentError(f"q is {q.dtype} on {q.device}, k is {k.dtype} on {k.device}: they must agree")
    if not isinstance(score, Score):
        raise ArgumentError(f"score must be a score such as ScaledDot(), not {type(score).__name__}")
    if mask is not None and not isinstance(mask, Mask):
        hint = ": wrap it as Dense(table)" if isinstance(mask, Tensor) else ""
        raise ArgumentError(
            f"mask must be a mask such as Causal() or Padding(lengths), not {type(mask).__name__}{hint}"
        )
    if softcap is not None:
        check_number("softcap", softcap)
        if softcap <= 0:
            raise ArgumentError(f"softcap must be a finite positive number, not {softcap!r}")
    extent = Extent.of(q, k)
    score.check(q, k)
    check_supported(score.form, {"bias": bias, "factor": factor, "softcap": softcap, "sink": sink})
    visibility = EVERYTHING if mask is None else mask.resolve(extent)
    extra: dict[str, Operand] = {}
    if bias is not None:
        bias, barred = _given_bias(bias, extent)
        visibility = visibility & barred
        extra |= {f"bias.{name}": operand for name, operand in bias.operands(extent).items()}
    if factor is not None:
        factor = _given_factor(factor)
        extra |= {f"factor.{name}": operand for name, operand in factor.operands(extent).items()}
    if sink is not None:
        check_tensor("sink", sink)
        if sink.numel() != extent.heads:
            raise ArgumentError(f"sink is {shape(sink)}: expected one logit for each of {extent.heads} heads")
        if sink.device != extent.device:
            raise ArgumentError(f"sink is on {sink.device}, queries and keys are on {extent.device}")
        extra["sink"] = Operand(sink.reshape(1, -1, 1, 1), "head")
    heads_q, heads_k = extent.heads_first(q), extent.heads_first(k)
    heads_k = zero_unseen(heads_k, visibility, extent, always=score.form == "factorised")
    with own_precision(extent.device):
        lifted = score.lift(heads_q, heads_k)
    _check_lifted(score, lifted, heads_q, heads_k)
    operands = {"q": Operand(lifted.q, "query"), "k": Operand(lifted.k, "key")}
    if lifted.weight is not None:
        operands["weight"] = Operand(lifted.weight, "head")
    return Scoring(score.form, operands | extra, lifted.scale, visibility, bias, factor, softcap, extent)


def _check_lifted(score: Score, lifted: Lifted, q: Tensor, k: Tensor) -> None:
    """Raise `ArgumentError` unless what a score's `lift` gives is what its form takes: scores may be anyone's."""
    if lifted.q is q and lifted.k is k and lifted.scale > 0 and lifted.weight is None and score.form == "inner":
        return
    name = type(score).__name__
    if not lifted.scale > 0:
        raise ArgumentError(f"{name}.lift: scale must be positive, not {lifted.scale}: put its sign into q")
    for what, x, given in (("q", lifted.q, q), ("k", lifted.k, k)):
        if x.shape[:-1] != given.shape[:-1] or x.shape[-1] != lifted.q.shape[-1] or x.dtype != given.dtype:
            raise ArgumentError(
                f"{name}.lift: {what} is {shape(x)} {x.dtype}: expected {(*given.shape[:-1], lifted.q.shape[-1])} "
                f"{given.dtype}"
            )
    weight = lifted.weight
    if (weight is not None) != (score.form == "additive"):
        raise ArgumentError(f"{name}.lift: the additive form has a weight, the others have none")
    if weight is not None and (weight.ndim != 4 or weight.shape[-1] != lifted.q.shape[-1]):
        raise ArgumentError(f"{name}.lift: weight is {shape(weight)}: expected (1, H or 1, 1, {lifted.q.shape[-1]})")


def _given_bias(bias: Bias | Tensor, extent: Extent) -> tuple[Bias, Visibility]:
    """The bias as an object, and the places that it bars by −∞."""
    if isinstance(bias, Bias):
        return bias, Visibility()
    check_tensor("bias", bias, "ALiBi(), RelativeBias(table) or ")
    table = extent.table(bias, "bias")
    if readable(table) and not (table.numel() and table.detach().amin() == -torch.inf):
        return Given(bias, "bias"), Visibility()
    barred = bias == -torch.inf
    seen = Visibility(dense=extent.table(~barred, "bias"))
    return Given(bias.masked_fill(barred, 0.0), "bias"), seen


def _given_factor(factor: Factor | Tensor) -> Factor:
    if isinstance(factor, Factor):
        return factor
    check_tensor("factor", factor, "GaussianFactor(centre, sigma) or ")
    if readable(factor) and factor.numel():
        least, most = (x.item() for x in torch.aminmax(factor.detach()))
        if not (least >= 0 and most <= 1):
            raise ArgumentError(f"factor must be from 0 to 1, and it goes from {least} to {most}")
    return Given(factor, "factor")


def zero_unseen(x: Tensor, visibility: Visibility, extent: Extent, *, always: bool = False) -> Tensor:
    """Put zeros where no query sees a key, so that nothing there, NaN included, reaches a result or a gradient.

    Args:
        x: keys or values (B, G, K, ·).
        visibility: which keys are seen.
        extent: sizes.
        always: also where the numbers are harmless in a product: a function of them might not be.
    """
    if all_seen(visibility, extent):
        return x
    # then weights of 0 do the same, without a copy; an exported graph can't look, and is given no others
    if not always and (torch.compiler.is_exporting() or _is_harmless(x)):
        return x
    seen = visibility.seen_keys(extent.queries, extent.keys, extent.device)  # (B or 1, H or 1, K)
    if seen.shape[1] > 1:
        seen = seen.view(seen.shape[0], extent.groups, -1, extent.keys).any(2)  # (B or 1, G, K)
    return x.masked_fill(~seen[..., None], 0.0)


def all_seen(visibility: Visibility, extent: Extent) -> bool:
    """Whether it is plain, without looking at a tensor, that every key is seen by some query."""
    seen = visibility
    if seen.unlimited:
        return True
    if seen.keys is not None or seen.start is not None or seen.stop is not None or not seen.limits_only:
        return False
    last = seen.causal is None or extent.queries + seen.causal >= extent.keys
    some = seen.causal is None or seen.lower is None or seen.lower <= seen.causal
    return last and some and (seen.lower is None or seen.lower <= 0) and extent.queries > 0


def check_tensor(name: str, x: object, others: str = "") -> None:
    """Raise `ArgumentError` unless x is a real floating-point tensor; `others` says what else might have come."""
    if not isinstance(x, Tensor):
        raise ArgumentError(f"{name} must be {others}a tensor, not {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise ArgumentError(f"{name} is {x.dtype}: expected float32, float64, float16 or bfloat16")


def _is_harmless(x: Tensor) -> bool:
    """Whether x surely holds no NaN, no infinity and nothing so large that a score of it could become infinite.

    Asked only where the answer is cheap: one reading pass on the CPU.
    """
    if not readable(x):
        return False
    if x.numel() == 0:
        return True
    least, most = torch.aminmax(x.detach() if x.requires_grad else x)
    return least.item() > -HARMLESS and most.item() < HARMLESS  # False for NaN


def named(prefix: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): x for name, x in parts.items() if name.startswith(prefix)}
