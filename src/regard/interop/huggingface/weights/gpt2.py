"""GPT-2 as the GPT of this package."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from regard.interop.huggingface.weights.family import Family, Given, Opened, Written, with_prefix
from regard.interop.huggingface.weights.fields import THEIR_ACTIVATIONS, Fields, activation
from regard.interop.huggingface.weights.generation import language_content, language_generation
from regard.interop.huggingface.weights.table import SAME, Form, Table, Transposed, Weight
from regard.models.gpt import GPTConfig, build_gpt

MODEL: Final = "GPT2LMHeadModel"
HEAD, TOKENS = "lm_head.weight", "transformer.wte.weight"

LAYER: Final[tuple[tuple[str, str, Form], ...]] = (
    ("attention_residual.norm", "ln_1", SAME),
    ("attention.input", "attn.c_attn", Transposed()),
    ("attention.output", "attn.c_proj", Transposed()),
    ("feedforward_residual.norm", "ln_2", SAME),
    ("feedforward.inner", "mlp.c_fc", Transposed()),
    ("feedforward.outer", "mlp.c_proj", Transposed()),
)
"""Modules of a layer: ours, theirs, and how their matrices lie. Each has a weight and a bias."""

FIELDS: Final = Fields(
    read={
        "vocab_size": (int, 50257),
        "n_positions": (int, 1024),
        "n_embd": (int, 768),
        "n_layer": (int, 12),
        "n_head": (int, 12),
        "n_inner": (int, None),
        "activation_function": (str, "gelu_new"),
        "resid_pdrop": (float, 0.1),
        "attn_pdrop": (float, 0.1),
        "layer_norm_epsilon": (float, 1e-5),
        "tie_word_embeddings": (bool, True),
    },
    must={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
)


def table(config: GPTConfig) -> Table:
    """The weights of a GPT in the names of GPT-2."""
    weights = [
        Weight("embedding.tokens.weight", (TOKENS,)),
        Weight("embedding.positions.table", ("transformer.wpe.weight",)),
    ]
    zeros: dict[str, Callable[[], Tensor]] = {}  # GPT-2 has all biases: those that ours hasn't are 0
    for i in range(config.layers):
        for ours, theirs, form in LAYER:
            name = f"transformer.h.{i}.{theirs}"
            weights.append(Weight(f"layers.{i}.{ours}.weight", (f"{name}.weight",), form))
            if config.bias == "all" or (config.bias == "queries_keys_values" and ours == "attention.input"):
                weights.append(Weight(f"layers.{i}.{ours}.bias", (f"{name}.bias",)))
            else:
                zeros[f"{name}.bias"] = partial(torch.zeros, _outputs(config, ours))
    weights.append(Weight("norm.weight", ("transformer.ln_f.weight",)))
    if config.bias == "all":
        weights.append(Weight("norm.bias", ("transformer.ln_f.bias",)))
    else:
        zeros["transformer.ln_f.bias"] = partial(torch.zeros, config.width)
    if not config.shared:
        weights.append(Weight("output.weight", (HEAD,)))
    return Table(
        weights,
        [(TOKENS, HEAD)] if config.shared else [],
        constants=zeros,
        written=tuple(zeros),
        # the masks of old directories
        ignored=(r"transformer\.h\.\d+\.attn\.(masked_)?bias",),
    )


def _outputs(config: GPTConfig, ours: str) -> int:
    """How many numbers a module gives for each position."""
    wide = {"attention.input": 3 * config.width, "feedforward.inner": config.feedforward}
    return wide.get(ours, config.width)


def open_gpt2(given: Given) -> Opened:
    """The model of a directory."""
    values = given.values
    config = GPTConfig(
        values["vocab_size"],
        layers=values["n_layer"],
        width=values["n_embd"],
        feedforward=4 * values["n_embd"] if values["n_inner"] is None else values["n_inner"],
        heads=values["n_head"],
        dropout=values["resid_pdrop"],
        attention_dropout=values["attn_pdrop"],
        norm_epsilon=values["layer_norm_epsilon"],
        activation=activation(values, "activation_function", given.file),
        shared=values["tie_word_embeddings"],
        max_length=values["n_positions"],
    )
    return Opened("language_modelling", partial(build_gpt, config), table(config), language_content(given.generation))


FAMILY: Final = Family("gpt2", (MODEL, "GPT2Model"), FIELDS, with_prefix("transformer.", ("lm_head.",)), open_gpt2)


def problem(config: GPTConfig) -> str | None:
    """Why a GPT of ours is no GPT-2, or None."""
    fits = {
        f"norm = {config.norm!r}": config.norm == "layer",
        f"positions = {config.positions!r}": config.positions == "learned",
        f"feedforward_kind = {config.feedforward_kind!r}": config.feedforward_kind == "plain",
        f"key_heads = {config.key_heads}": config.key_heads in (None, config.heads),
        f"head_width = {config.head_width}": config.width_of_head * config.heads == config.width,
    }
    return next((name for name, fine in fits.items() if not fine), None)


def write(config: GPTConfig, content: Mapping[str, Any]) -> Written:
    """A GPT as a GPT-2; `problem` has found none."""
    tokens = language_generation(content)
    fields = {
        "architectures": [MODEL],
        "model_type": "gpt2",
        "vocab_size": config.vocabulary,
        "n_positions": config.max_length,
        "n_ctx": config.max_length,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.feedforward,
        "activation_function": THEIR_ACTIVATIONS[config.activation],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.shared,
        "torch_dtype": "float32",
        # null where there is none: what isn't there is that of the published GPT-2
        "bos_token_id": tokens.get("bos_token_id"),
        "eos_token_id": tokens.get("eos_token_id"),
    }
    return Written(fields, table(config), tokens)
