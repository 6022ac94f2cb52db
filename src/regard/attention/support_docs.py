"""The page docs/attention-support.md: `python -m regard.attention.support_docs > docs/attention-support.md`."""

from collections.abc import Callable

import torch

from regard.attention.operator import attention_plan
from regard.attention.scores import EXAMPLES
from regard.attention.support import MASKS, OPTIONS, REFUSED, Made
from regard.errors import UnsupportedError

BATCH, HEADS, LENGTH, WIDTH = 2, 4, 1021, 64
"""Sizes that the table is made for: long enough that no backend for short sequences takes the call."""

TITLE = """# What goes with what

Each cell is the backend that runs the call on the CPU, as `attention_plan` tells it for B = 2, H = 4, Q = K = 1021,
D = 64, float32, without a gradient unless a parameter is called learned. `Q × K` marks those whose memory grows with
the table; all others take memory linear in length, forward and backward. Every combination of a score, a mask and other
options runs, with any grouping of heads and in float16, bfloat16, float32 and float64; what is refused stands at the
end.

On CUDA devices FlexAttention (`flex`) takes what torch's public function would write a table for or can't do; that is
written from its documentation, checked without a GPU by its uncompiled version, and has not been run on one. Under
`torch.compile`, in `torch.func` transforms and on meta tensors the plain computation (`reference`) or torch's public
function runs, in memory that grows with Q × K; additive scores take Q × K × D there, except in models compiled for the
CPU.

This page is made by `python -m regard.attention.support_docs`.
"""


def page() -> str:
    """The page as Markdown."""
    q = torch.zeros(BATCH, HEADS, LENGTH, WIDTH)
    generator = torch.Generator().manual_seed(0)
    scores = {name: make(HEADS, WIDTH, generator) for name, make in EXAMPLES.items()}

    def cell(score: str, options: Made) -> str:
        try:
            told = attention_plan(q, q, q, score=scores[score], **options)
        except UnsupportedError:
            return "refused"
        return told.backend + (" (Q × K)" if "Q × K" in told.how else "")

    masks: dict[str, Made] = {name: {"mask": make(BATCH, LENGTH, LENGTH)} for name, make in MASKS.items()}
    others = {name: make(BATCH, HEADS, LENGTH, LENGTH) for name, make in OPTIONS.items()}
    parts = [TITLE, "## Masks", "", _table(list(scores), masks, cell), "## Other options, without a mask", ""]
    parts += [_table(list(scores), others, cell), "## Refused", ""]
    parts += [
        f"- `{option}` with a score of the {form} form: {refusal.why}. Nearest: {refusal.nearest}."
        for (form, option), refusal in REFUSED.items()
    ]
    return "\n".join(parts) + "\n"


def _table(scores: list[str], options: dict[str, Made], cell: Callable[[str, Made], str]) -> str:
    lines = ["| | " + " | ".join(scores) + " |", "|---|" + "---|" * len(scores)]
    lines += [
        f"| `{_cell(name)}` | " + " | ".join(cell(score, made) for score in scores) + " |"
        for name, made in options.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(name: str) -> str:
    return name.replace("|", "\\|")  # which would end the cell


if __name__ == "__main__":
    print(page(), end="")
