"""What is understood of a config.json: a table of fields for each family; anything else is an error."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regard.errors import CheckpointError
from regard.layers.feedforward import Activation

REQUIRED: Final = object()
"""Stands for the default of a field that must be there."""

TOKENS: Final = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")

BOOKKEEPING: Final = frozenset(
    {
        *("_name_or_path", "name_or_path", "_commit_hash", "architectures", "model_type", "transformers_version"),
        *("torch_dtype", "dtype", "tokenizer_class", "tokenizer_type", "finetuning_task", "use_cache", "auto_map"),
        *("return_dict", "return_dict_in_generate", "output_attentions", "output_hidden_states", "output_scores"),
        *("output_past", "use_return_dict", "torchscript", "chunk_size_feed_forward", "problem_type", "num_labels"),
        *(
            "id2label",
            "label2id",
            "_num_labels",
            "gradient_checkpointing",
            "attn_implementation",
            "_attn_implementation",
        ),
        *(
            "_attn_implementation_autoset",
            "tf_legacy_loss",
            "use_bfloat16",
            "tie_last_hidden_states",
            "initializer_range",
        ),
        *("init_std", "initializer_factor", "encoder_layerdrop", "decoder_layerdrop", "activation_dropout"),
        *("classif_dropout", "classifier_dropout", "num_hidden_layers", "vocab_file", "sep_token_id", "unk_token_id"),
        *("embd_pdrop", "pretraining_tp", "task_specific_params", "prefix", "is_encoder_decoder"),
        *(
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        ),
        *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout"),
        *("static_position_embeddings", "extra_pos_embeddings", "directionality", "n_ctx", "n_special"),
        *("predict_special_tokens", "reorder_and_upcast_attn", "mask_token_id", "eos_token_ids"),
        *("unsloth_fixed", "unsloth_version"),
    }
)
"""Fields that don't change what is computed: names, what training began with and dropped, how results are given back,
what other heads than ours do, and copies of what other fields say. (`reorder_and_upcast_attn` is about precision,
`static_position_embeddings` about what is trained.)"""

GENERATION: Final = frozenset(
    {
        *("max_length", "max_new_tokens", "min_length", "min_new_tokens", "early_stopping", "num_beams", "do_sample"),
        *("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
        *("forced_bos_token_id", "forced_eos_token_id", "force_bos_token_to_be_generated", "num_beam_groups"),
        *("diversity_penalty", "suppress_tokens", "begin_suppress_tokens", "remove_invalid_values"),
        *("exponential_decay_length_penalty", "max_time"),
    }
)
"""Fields that are about generating, which older directories have in config.json (see `generation`)."""

NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False, None),
    "pruned_heads": (None, {}, []),
    "tie_encoder_decoder": (False, None),
    "position_embedding_type": (None, "absolute"),
    "quantization_config": (None,),
    "per_layer_config": (None, {}),
    "embedding_size": (None,),
}
"""Fields of all families that may only have values which change nothing."""


@dataclass(frozen=True)
class Fields:
    """What is understood of the config.json of a family.

    Attributes:
        read: fields that are used, each with the type of its value and what it is if it isn't there (the default of
            transformers, or `REQUIRED`). A field whose default is None may be null.
        must: fields that may only have certain values, which are those of the computation here.
        harmless: further fields that change nothing.
    """

    read: Mapping[str, tuple[type, Any]]
    must: Mapping[str, tuple[Any, ...]]
    harmless: frozenset[str] = frozenset()

    def understood(self, content: Mapping[str, Any], file: Path) -> dict[str, Any]:
        """The values of all fields that are used.

        Raises:
            CheckpointError: a field is missing, unknown, or has a value that this package doesn't compute; the message
                names it.
        """
        must = {**NEUTRAL, **self.must}
        harmless = BOOKKEEPING | GENERATION | self.harmless | set(TOKENS)
        for name, value in content.items():
            if name in self.read:
                continue
            if name in must:
                # 1 is no True here, and 0 no False
                if not any(value == one and type(value) is type(one) for one in must[name]):
                    expected = " or ".join(_shown(one) for one in must[name])
                    raise CheckpointError(f"{file}: {name} is {_shown(value)}; supported is {expected}")
            elif name not in harmless:
                raise CheckpointError(
                    f"{file}: the field {name} = {_shown(value)} isn't known, and might change what is computed; "
                    f"take it out of {file.name} if it doesn't"
                )
        return {name: self._value(content, name, file) for name in self.read}

    def _value(self, content: Mapping[str, Any], name: str, file: Path) -> Any:
        kind, default = self.read[name]
        value = content.get(name, default)
        if value is REQUIRED:
            raise CheckpointError(f"{file}: there is no field {name}")
        if value is None and default is None:
            return None
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise CheckpointError(f"{file}: {name} is {_shown(value)}; expected a value of type {kind.__name__}")
        return value


ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Our names of activations by theirs."""

THEIR_ACTIVATIONS: Final[Mapping[str, str]] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "silu": "silu",
}


def activation(values: Mapping[str, Any], name: str, file: Path) -> Activation:
    """Our name of the activation that the field `name` says.

    Raises:
        CheckpointError: there is none of that name here.
    """
    if values[name] not in ACTIVATIONS:
        raise CheckpointError(f"{file}: {name} is {_shown(values[name])}; supported is {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[values[name]]


def equal(values: Mapping[str, Any], names: tuple[str, ...], file: Path) -> Any:
    """The value that several fields have in common.

    Raises:
        CheckpointError: they differ.
    """
    found = [values[name] for name in names]
    if any(one != found[0] for one in found):
        pairs = ", ".join(f"{name} = {_shown(one)}" for name, one in zip(names, found, strict=True))
        raise CheckpointError(f"{file}: {pairs}: supported is the same for both")
    return found[0]


def _shown(value: Any) -> str:
    return f"{value!r:.80}"
