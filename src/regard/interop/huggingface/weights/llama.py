"""Llama and Qwen2 as the GPT of this package."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from regard.errors import CheckpointError
from regard.interop.huggingface.weights.family import Family, Given, Opened, Written, with_prefix
from regard.interop.huggingface.weights.fields import THEIR_ACTIVATIONS, Fields, activation
from regard.interop.huggingface.weights.generation import language_content, language_generation
from regard.interop.huggingface.weights.table import SAME, Joined, Table, Weight
from regard.models.gpt import GPTConfig, build_gpt

MODELS: Final = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
HEAD, TOKENS = "lm_head.weight", "model.embed_tokens.weight"

LAYER: Final = {
    "attention.input": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.output": ("self_attn.o_proj",),
    "feedforward.gate": ("mlp.gate_proj",),
    "feedforward.inner": ("mlp.up_proj",),
    "feedforward.outer": ("mlp.down_proj",),
}
"""Linear layers of a layer, ours and theirs."""

BIASED: Final[Mapping[str, tuple[str, ...]]] = {
    "all": tuple(LAYER),
    "queries_keys_values": ("attention.input",),
    "none": (),
}
"""Which of them have a bias."""

SCALING: Final = {
    "factor": "rotary_factor",
    "low_freq_factor": "rotary_low",
    "high_freq_factor": "rotary_high",
    "original_max_position_embeddings": "rotary_original",
}
"""What is said of longer wavelengths, theirs and ours."""

READ: Final[Mapping[str, tuple[type, Any]]] = {
    "hidden_act": (str, "silu"),
    "tie_word_embeddings": (bool, False),
    "rms_norm_eps": (float, 1e-6),
    "rope_theta": (float, None),
    "rope_scaling": (dict, None),
    "rope_parameters": (dict, None),
    "attention_dropout": (float, 0.0),
    "num_key_value_heads": (int, None),
    "head_dim": (int, None),
}
LLAMA: Final = Fields(
    read={
        **READ,
        "vocab_size": (int, 32000),
        "hidden_size": (int, 4096),
        "intermediate_size": (int, 11008),
        "num_hidden_layers": (int, 32),
        "num_attention_heads": (int, 32),
        "max_position_embeddings": (int, 2048),
        "attention_bias": (bool, False),
        "mlp_bias": (bool, False),
    },
    must={"partial_rotary_factor": (None, 1.0), "sliding_window": (None,), "rope_interleaved": (False,)},
    harmless=frozenset({"is_llama_config", "transformers.js_config", "max_sequence_length"}),
)
QWEN2: Final = Fields(
    read={
        **READ,
        "vocab_size": (int, 151936),
        "hidden_size": (int, 4096),
        "intermediate_size": (int, 22016),
        "num_hidden_layers": (int, 32),
        "num_attention_heads": (int, 32),
        "max_position_embeddings": (int, 32768),
        "layer_types": (list, None),
    },
    must={"partial_rotary_factor": (None, 1.0), "use_sliding_window": (False,), "use_mrope": (None, False)},
    # of the window that is not used
    harmless=frozenset({"sliding_window", "max_window_layers"}),
)


def table(config: GPTConfig) -> Table:
    """The weights of a GPT in the names of Llama."""
    groups = config.heads if config.key_heads is None else config.key_heads
    sizes = tuple(heads * config.width_of_head for heads in (config.heads, groups, groups))
    weights = [Weight("embedding.tokens.weight", (TOKENS,)), Weight("norm.weight", ("model.norm.weight",))]
    for i in range(config.layers):
        layer, theirs = f"layers.{i}", f"model.layers.{i}"
        weights += [
            Weight(f"{layer}.attention_residual.norm.weight", (f"{theirs}.input_layernorm.weight",)),
            Weight(f"{layer}.feedforward_residual.norm.weight", (f"{theirs}.post_attention_layernorm.weight",)),
        ]
        for ours, parts in LAYER.items():
            for kind in ("weight", "bias") if ours in BIASED[config.bias] else ("weight",):
                names = tuple(f"{theirs}.{part}.{kind}" for part in parts)
                weights.append(Weight(f"{layer}.{ours}.{kind}", names, Joined(sizes) if len(names) > 1 else SAME))
    if not config.shared:
        weights.append(Weight("output.weight", (HEAD,)))
    # angles, which old directories hold
    ignored = (r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",)
    return Table(weights, [(TOKENS, HEAD)] if config.shared else [], ignored=ignored)


def open_llama(given: Given) -> Opened:
    """The model of a directory."""
    values, file = given.values, given.file
    attention, feedforward = values.get("attention_bias"), values.get("mlp_bias")
    if attention != feedforward:
        raise CheckpointError(f"{file}: attention_bias is {attention}, mlp_bias {feedforward}; supported is the same")
    bias = "queries_keys_values" if attention is None else "all" if attention else "none"
    if any(kind != "full_attention" for kind in values.get("layer_types") or ()):
        raise CheckpointError(f"{file}: layer_types is {values['layer_types']!r:.80}; supported is 'full_attention'")
    heads, width = values["num_attention_heads"], values["hidden_size"]
    groups = values["num_key_value_heads"]
    config = GPTConfig(
        values["vocab_size"],
        layers=values["num_hidden_layers"],
        width=width,
        feedforward=values["intermediate_size"],
        heads=heads,
        key_heads=groups if groups != heads else None,
        head_width=values["head_dim"] if values["head_dim"] not in (None, width // heads) else None,
        dropout=0.0,
        attention_dropout=values["attention_dropout"],
        norm="rms",
        norm_epsilon=values["rms_norm_eps"],
        positions="rotary",
        **rotary(values, file),
        activation=activation(values, "hidden_act", file),
        feedforward_kind="gated",
        bias=bias,  # type: ignore[arg-type]
        shared=values["tie_word_embeddings"],
        max_length=values["max_position_embeddings"],
    )
    return Opened("language_modelling", partial(build_gpt, config), table(config), language_content(given.generation))


def rotary(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The fields of our configuration for the wavelengths, which transformers has written in several ways.

    Raises:
        CheckpointError: they are of a kind that isn't computed here, or a number is missing.
    """
    name = "rope_scaling" if values["rope_scaling"] else "rope_parameters"  # the former goes first there
    given: dict[str, Any] = values[name] or {}
    kind, base = given.get("rope_type", given.get("type", "default")), given.get("rope_theta", values["rope_theta"])
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointError(f"{file}: {name} is {given!r:.120}; supported are the types default, linear and llama3")
    wanted: tuple[str, ...] = {"default": (), "linear": ("factor",), "llama3": tuple(SCALING)}[kind]
    others = given.keys() - {"rope_type", "type", "rope_theta", "partial_rotary_factor", *wanted}
    if others or given.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(f"{file}: {name} is {given!r:.120}; not known of the type {kind!r} is {sorted(others)}")
    if values["rope_scaling"] and values["rope_parameters"] not in (None, {}, values["rope_scaling"]):
        raise CheckpointError(f"{file}: rope_scaling and rope_parameters differ; supported is one of them")
    found: dict[str, Any] = {"rope_theta": 10000.0 if base is None else base, **{key: given.get(key) for key in wanted}}
    for key, value in found.items():
        if type(value) not in (int, float):
            raise CheckpointError(f"{file}: {key} is {value!r:.80}; expected a number")
    ours = {SCALING[key]: value for key, value in found.items() if key in wanted}
    return {"rotary_base": float(found["rope_theta"]), **ours}


def scaling(config: GPTConfig) -> dict[str, Any] | None:
    """What `rotary` reads of wavelengths that are longer, None if they are not."""
    if config.rotary_factor == 1:
        return None
    if config.rotary_original is None:
        return {"rope_type": "linear", "factor": config.rotary_factor}
    return {"rope_type": "llama3", **{key: getattr(config, ours) for key, ours in SCALING.items()}}


FAMILIES: Final = tuple(
    Family(
        kind, (model, model.replace("ForCausalLM", "Model")), fields, with_prefix("model.", ("lm_head.",)), open_llama
    )
    for (kind, model), fields in zip(MODELS.items(), (LLAMA, QWEN2), strict=True)
)


def problem(config: GPTConfig) -> str | None:
    """Why a GPT of ours is no Llama, or None."""
    fits = {
        f"norm = {config.norm!r}": config.norm == "rms",
        f"positions = {config.positions!r}": config.positions == "rotary",
        f"feedforward_kind = {config.feedforward_kind!r}": config.feedforward_kind == "gated",
        f"width = {config.width} that is no multiple of its {config.heads} heads": config.width % config.heads == 0,
    }
    return next((name for name, fine in fits.items() if not fine), None)


def write(config: GPTConfig, content: Mapping[str, Any]) -> Written:
    """A GPT as a Llama, or as a Qwen2 if only the projections of queries, keys and values have biases.

    `problem` has found none.
    """
    kind = "qwen2" if config.bias == "queries_keys_values" else "llama"
    tokens = language_generation(content)
    fields: dict[str, Any] = {
        "architectures": [MODELS[kind]],
        "model_type": kind,
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.feedforward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads if config.key_heads is None else config.key_heads,
        "head_dim": config.width_of_head,
        "hidden_act": THEIR_ACTIVATIONS[config.activation],
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rotary_base,
        "rope_scaling": scaling(config),
        "attention_dropout": config.attention_dropout,
        "tie_word_embeddings": config.shared,
        "torch_dtype": "float32",
        # null where there is none: what isn't there is that of the published models
        "bos_token_id": tokens.get("bos_token_id"),
        "eos_token_id": tokens.get("eos_token_id"),
    }
    own = (
        {"use_sliding_window": False}
        if kind == "qwen2"
        else dict.fromkeys(("attention_bias", "mlp_bias"), config.bias == "all")
    )
    return Written(fields | own, table(config), tokens)
