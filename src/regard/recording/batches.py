"""Some batch elements of a table."""

from dataclasses import replace

from torch import Tensor

from regard.attention import AttentionMap
from regard.attention.operands import Operand
from regard.attention.visibility import Visibility


def chosen(table: AttentionMap, rows: Tensor) -> AttentionMap:
    """The table of some batch elements (R,) int64, which may come several times; (R, H, Q, K)."""
    scoring = table.scoring
    rows = rows.to(scoring.extent.device)

    def take(x: Tensor) -> Tensor:
        return x if x.shape[0] == 1 else x.index_select(0, rows)

    def seen(x: Visibility) -> Visibility:
        return replace(
            x,
            start=None if x.start is None else take(x.start),
            stop=None if x.stop is None else take(x.stop),
            keys=None if x.keys is None else take(x.keys),
            documents=tuple((take(q), take(k)) for q, k in x.documents),
            unions=tuple((seen(a), seen(b)) for a, b in x.unions),
            dense=None if x.dense is None else take(x.dense),
        )

    sizes = scoring.extent
    # an axis of length 1 stands for any number, except where there was one batch element only
    operands = {
        name: x
        if x.kind == "head"
        else Operand(
            x.tensor.expand(len(rows), *x.tensor.shape[1:]) if x.tensor.shape[0] == 1 else take(x.tensor), x.kind
        )
        for name, x in scoring.operands.items()
    }
    extent = replace(sizes, leading=(len(rows), sizes.heads), batch=len(rows))
    return AttentionMap.of(replace(scoring, operands=operands, visibility=seen(scoring.visibility), extent=extent))
