"""The plain computation: the whole table of weights, any dtype and option. In float64 it is the oracle of the tests."""

from torch import Tensor
from torch.nn import functional as F

from regard.attention.backends.contract import Backend, Call
from regard.attention.rows import row_lse, row_weights
from regard.attention.scoring import matmul_grouped


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
        scores = table.scores(slice(0, table.extent.queries), slice(0, table.extent.keys))  # (B, H, Q, K)
        weights = row_weights(scores)
        lse = row_lse(scores) if call.need_lse or table.sink is not None else None  # (B, H, Q)
        if table.sink is not None and lse is not None:
            weights = weights * table.mass(lse)[..., None]
        if call.dropout:
            weights = F.dropout(weights, call.dropout)
        context = matmul_grouped(weights, call.v.to(weights.dtype))  # (B, H, Q, Dv)
        return context.to(call.v.dtype), lse if call.need_lse else None


REFERENCE = Reference()
