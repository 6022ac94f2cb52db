"""The page docs/huggingface-models.md: `python -m regard.interop.huggingface.coverage > docs/huggingface-models.md`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from regard.attention import AttentionMap
from regard.errors import UnsupportedError
from regard.insight.tokens import Role
from regard.interop.huggingface.families import FAMILIES, Family
from regard.interop.huggingface.modules import VERSION
from regard.interop.huggingface.source import HuggingFaceModel

BOUND = 1e-5
"""How far a map may be from the weights that the eager implementation returns, in float32."""

TITLE = """# Hugging Face models

`regard.record` hears the attention of models of `transformers`, 5.x and late 4.x (4.57), whose modules call the
attention functions that the library lets choose (`attn_implementation`). The implementation stays the one that the
model was loaded with, "sdpa" or "eager"; its function is called with the very same arguments, so that outputs are the
same bit for bit, and the map is made of those arguments. What can't be honoured exactly is an `UnsupportedError` that
names it.

Each row is checked on a tiny random model of two layers: that its outputs with and without recording are equal in every
bit, and how far its maps are from the weights that the same model returns with `output_attentions=True` in the eager
implementation, over all layers, heads and places but the rows of padding.
"""

NOTES = """
In transformers 4.57 BERT, RoBERTa, DistilBERT, ALBERT, ELECTRA, ModernBERT, T5 and MT5 are refused for the same reason,
and Gemma 2 has to be loaded with "eager", for "sdpa" leaves its soft-cap out there; all others are recorded.

Other models of `transformers` are recorded if they attend in the same way, and refused by name if not. A module that
runs and doesn't call its function exactly once (Qwen2-VL's picture encoder calls it for each picture) is an error
after it ran. So is an eager function that returns other weights than those of its arguments; looked at are three rows
a call, as far as the model's precision tells, and none while it drops weights out in training. Implementations that
don't say all of their table in their arguments (`flash_attention_2`, `flex_attention`, `paged|…`, those of one's own)
are refused: load the model with `attn_implementation="sdpa"`.

## What a map is

- Queries and keys are those that the scores are made of: after rotary positions, keys not repeated for the query heads
  that share them. Weights are those before dropout.
- A query that sees no key, as the padding on the left of a causal model, has weights of 0 where the model's function
  gives it none ("sdpa" with a mask of booleans), and equal weights for all keys where it really averages them (a mask
  of the least finite number: "eager", and T5).
- A static cache's room for more is cut off. Packed sequences (`position_ids` that start again) are masked as the model
  masks them.
- With gradient checkpointing the pass itself is recorded, not what is computed again for the gradient.

## Memory

Hugging Face writes out a mask for padding, windows and packed sequences, a byte for each of B·Q·K places (four with
"eager"), and T5 its position bias, H·Q·K numbers: at 8192 tokens 64 MiB and, for 8 heads in float32, 2 GiB. A recording
keeps none of these: a mask that leaves each query one interval of keys, which padding, windows, packing and prefixes
do, becomes two numbers a query, and a bias that is constant along its diagonals one number a diagonal; both are checked
exactly, place by place. What is neither stays a table.

The tables themselves can't be avoided without another kernel, whose outputs would differ in the last bits: see
[decision 33](decisions/0033-huggingface-entry.md).

This page is made by `python -m regard.interop.huggingface.coverage`, which also says what the transformers that is
installed can do.
"""


@dataclass(frozen=True)
class Found:
    """What was found for a family.

    Attributes:
        implementation: of attention, by default.
        same: whether outputs with and without recording are equal in every bit.
        error: the largest difference of a map and the eager implementation's weights.
        sharpest: the largest weight, of a query that sees more than a few keys.
    """

    implementation: str
    same: bool
    error: float
    sharpest: float


class Kept:
    """An observer that keeps every map.

    Args:
        roles: of the attentions.
    """

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self.roles = roles
        self.tables: dict[str, list[AttentionMap]] = {}

    def attended(self, name: str, table: AttentionMap) -> None:
        """See `Observer.attended`."""
        self.tables.setdefault(name, []).append(table.detached())

    def read(self, *_: Any) -> None:
        """See `Observer.read`."""

    def began(self) -> None:
        """See `Observer.began`."""

    def fed(self, *_: Any) -> None:
        """See `Observer.fed`."""

    def returned(self, *_: Any) -> None:
        """See `Observer.returned`."""


@contextmanager
def watched(model: nn.Module) -> Iterator[Kept]:
    """Keep every map of a model while this is open.

    Raises:
        UnsupportedError: it can't be recorded.
    """
    source = HuggingFaceModel(model)
    kept = Kept(source.roles)
    try:
        source.open(list(source.roles), kept)
        yield kept
    finally:
        source.close()


def examine(family: Family) -> Found:
    """Compare a model with itself unrecorded, and with the eager implementation.

    Raises:
        UnsupportedError: it can't be recorded.
    """
    model, inputs = family.make(), family.inputs()
    with torch.no_grad():
        alone = tensors(model(**inputs))
        with watched(model) as kept:
            recorded = tensors(model(**inputs))
        same = len(alone) == len(recorded) and all(map(torch.equal, alone, recorded))
        error, sharpest = compare(family.make("eager"), inputs, kept)
    return Found(model.config._attn_implementation, same, error, sharpest)


def compare(eager: PreTrainedModel, inputs: dict[str, Tensor], kept: Kept) -> tuple[float, float]:
    """The largest difference of the kept maps and the weights of the eager implementation, and the largest weight."""
    output = eager(**inputs, output_attentions=True)
    worst, sharpest, compared = 0.0, 0.0, 0
    for path, belongs in WHERE.items():
        weights = output
        for name in path.split("."):
            weights = getattr(weights, name, None)
        names = [name for name, role in kept.roles.items() if belongs(role)]
        if weights is None or not names:
            continue
        # as many maps as tables: those of a module that several layers share are its calls
        tables = [table for name in names for table in kept.tables[name]]
        for table, weight in zip(tables, weights, strict=True):
            rows = _real(inputs, kept.roles[names[0]], weight)
            worst = max(worst, float((table.dense() - weight)[rows].abs().max()))
            sharpest = max(sharpest, float(weight[:, :, 6:].max()))
            compared += 1
    if compared != sum(map(len, kept.tables.values())):
        raise AssertionError(f"{compared} maps compared of {kept.tables}")
    return worst, sharpest


def _real(inputs: dict[str, Tensor], role: Role, weight: Tensor) -> Tensor:
    """Which rows aren't padding: (B, H, Q) bool."""
    mask = inputs.get("attention_mask")
    rows = torch.ones(weight.shape[:3], dtype=torch.bool)
    return rows if mask is None or role.queries not in ("text", "source") else rows & mask.bool()[:, None]


WHERE: dict[str, Callable[[Role], bool]] = {
    "attentions": lambda role: role.queries in ("text", "image", "sound") and role.kind != "cross",
    "encoder_attentions": lambda role: role.kind == "self",
    "decoder_attentions": lambda role: role.queries == "target" and role.kind == "causal",
    "cross_attentions": lambda role: role.kind == "cross",
    "text_model_output.attentions": lambda role: role.queries == "text",
    "vision_model_output.attentions": lambda role: role.queries == "image",
}
"""Where an output has weights, and of which attentions."""


def tensors(output: Any) -> list[Tensor]:
    """All tensors of an output, without those of a cache."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, tuple) else ()
    return [x for part in parts for x in tensors(part)]


def page() -> str:
    """The page as Markdown."""
    recorded = ["| family | what is special | implementation | outputs | error |", "|---|---|---|---|---|"]
    refused = ["", "## Refused", "", "| family | what is special | error |", "|---|---|---|"]
    for family in FAMILIES:
        try:
            found = examine(family)
        except UnsupportedError as error:
            refused.append(f"| {family.name} | {family.special} | {str(error).replace(VERSION, '')} |")
            continue
        outputs = "equal" if found.same else "differ"
        error_is = "≤ 1e-5" if found.error <= BOUND else f"{found.error:.0e}"
        recorded.append(f"| {family.name} | {family.special} | {found.implementation} | {outputs} | {error_is} |")
    return TITLE + "\n" + "\n".join(recorded + refused) + "\n" + NOTES


if __name__ == "__main__":
    print(page(), end="")
