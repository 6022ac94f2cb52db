"""The plain computation: the whole table of weights, any dtype and option. In float64 it is the oracle of the tests."""

from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.pairs import matmul_grouped
from regard.attention.rows import row_lse, whole_weights


class Reference(Backend):
    """softmax(s) · v with the table written out; memory grows with Q × K."""

    name = "reference"

    def refuses(self, call: Call) -> str | None:
        """See `Backend.refuses`: nothing is refused."""
        return None

    def how(self, call: Call) -> str:
        """See `Backend.how`."""
        return "the whole table of weights is written out: memory grows with Q × K"

    def run(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """See `Backend.run`."""
        table = call.scoring
        rows, columns = slice(0, table.extent.queries), slice(0, table.extent.keys)
        # neither a region nor a block: torch.compile makes constants of slices that it finds in an object
        parts = {name: operand.tensor for name, operand in table.operands.items()}
        scores = table.scores_from(parts, rows, columns)  # (B, H, Q, K)
        weights = whole_weights(parts, scores, table.factors_from(parts, rows, columns))
        if call.dropout:
            weights = F.dropout(weights, call.dropout)
        context = matmul_grouped(weights, call.v.to(weights.dtype))  # (B, H, Q, Dv)
        return context.to(call.v.dtype), row_lse(scores) if call.need_lse else None


REFERENCE = Reference()
