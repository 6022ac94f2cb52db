"""Families of Hugging Face models, each as a tiny random model with inputs: what the tests and the docs go through."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

VOCABULARY = 100
"""Words that the tiny models know."""


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: as people call it.
        config: class of its configuration.
        model: class of a model that is made of it.
        special: what is special about its attention, in brief.
        reads: what it reads, a key of `INPUTS`.
        settings: of the tiny configuration.
        since: the first transformers in which it can be recorded; "" where it can't.
    """

    name: str
    config: str
    model: str
    special: str = ""
    reads: str = "text"
    settings: Mapping[str, Any] = field(default_factory=dict)
    since: str = "4.57"

    def make(self, implementation: str | None = None) -> PreTrainedModel:
        """A random model of two layers whose attention is far from uniform, in evaluation mode.

        Args:
            implementation: of attention; None is what the model uses by default.
        """
        torch.manual_seed(0)
        named = {} if implementation is None else {"attn_implementation": implementation}
        kind: Any = getattr(transformers, self.model)
        config: Any = getattr(transformers, self.config)(**self.settings)
        model: PreTrainedModel = kind._from_config(config, **named)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:
                    parameter.mul_(next((by for part, by in PROJECTIONS.items() if part in name), 1.0))
                if "sinks" in name or "relative_attention_bias" in name:
                    torch.nn.init.normal_(parameter)
        model.eval()  # type: ignore[no-untyped-call]
        return model

    def inputs(self) -> dict[str, Tensor]:
        """What the model is called with: two sequences, the second one padded where it is text."""
        return INPUTS[self.reads](torch.Generator().manual_seed(0))


PROJECTIONS = {
    **dict.fromkeys(
        ("q_proj", "k_proj", "query", "key", "c_attn", "qkv", "q_lin", "k_lin", "q_b_proj", "kv_b_proj"), 6.0
    ),
    **dict.fromkeys((".q.", ".k."), 2.0),  # T5, whose scores have no scale
}
"""Parts of the names of what makes queries and keys, and by what it is enlarged."""


def _text(generator: torch.Generator, *, left: bool = False) -> dict[str, Tensor]:
    ids = torch.randint(5, VOCABULARY, (2, 24), generator=generator)
    real = torch.ones_like(ids)
    real[1, slice(0, 7) if left else slice(-7, None)] = 0
    return {"input_ids": ids, "attention_mask": real}


def _pair(generator: torch.Generator) -> dict[str, Tensor]:
    target = torch.randint(5, VOCABULARY, (2, 13), generator=generator)
    return _text(generator) | {"decoder_input_ids": target}


INPUTS: dict[str, Callable[[torch.Generator], dict[str, Tensor]]] = {
    "text": _text,
    "text, padded on the left": lambda generator: _text(generator, left=True),
    "two texts": _pair,
    "an image": lambda generator: {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)},
    "an image and text": lambda generator: (
        {"pixel_values": torch.randn(2, 3, 32, 32, generator=generator)} | _text(generator)
    ),
    "sound": lambda generator: {"input_values": torch.randn(2, 800, generator=generator)},
    "sound and text": lambda generator: {
        "input_features": torch.randn(2, 8, 60, generator=generator),
        "decoder_input_ids": torch.randint(5, VOCABULARY, (2, 9), generator=generator),
    },
}
"""What models read, of a generator of random numbers."""

_STACK = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GROUPED = _STACK | {"num_key_value_heads": 2}
_WINDOWS = {"head_dim": 16, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_GPT = {
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_PAIR = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_LONG_PAIR = _PAIR | {"max_position_embeddings": 64}
_IMAGE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
_LEFT = "text, padded on the left"

FAMILIES = (
    Family("Llama", "LlamaConfig", "LlamaForCausalLM", "grouped heads", _LEFT, _GROUPED),
    Family(
        "Mistral",
        "MistralConfig",
        "MistralForCausalLM",
        "grouped heads, window",
        _LEFT,
        _GROUPED | {"sliding_window": 8},
    ),
    Family("Qwen2", "Qwen2Config", "Qwen2ForCausalLM", "grouped heads", _LEFT, _GROUPED),
    Family(
        "Qwen3",
        "Qwen3Config",
        "Qwen3ForCausalLM",
        "grouped heads, queries and keys normalised",
        "text",
        _GROUPED | {"head_dim": 16},
    ),
    Family(
        "Gemma 2",
        "Gemma2Config",
        "Gemma2ForCausalLM",
        "soft-cap, window, a scale of its own",
        "text",
        _GROUPED | _WINDOWS | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0},
        since="5",
    ),
    Family(
        "Gemma 3",
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        "window, a scale of its own",
        "text",
        _GROUPED | _WINDOWS | {"query_pre_attn_scalar": 16},
    ),
    Family("Phi", "PhiConfig", "PhiForCausalLM", "", "text", _STACK),
    Family(
        "Mixtral", "MixtralConfig", "MixtralForCausalLM", "grouped heads", "text", _GROUPED | {"num_local_experts": 2}
    ),
    Family("OLMo 2", "Olmo2Config", "Olmo2ForCausalLM", "grouped heads, normalised", "text", _GROUPED),
    Family(
        "DeepSeek-V3",
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        "values of another width than keys",
        "text",
        _STACK
        | {
            "num_key_value_heads": 4,
            "kv_lora_rank": 16,
            "q_lora_rank": 24,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "qk_nope_head_dim": 16,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
        },
    ),
    Family("GPT-2", "GPT2Config", "GPT2LMHeadModel", "", "text", _GPT),
    Family("GPT-NeoX", "GPTNeoXConfig", "GPTNeoXForCausalLM", "", "text", _STACK),
    Family(
        "OPT",
        "OPTConfig",
        "OPTForCausalLM",
        "",
        "text",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "ffn_dim": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 64,
        },
    ),
    Family(
        "gpt-oss",
        "GptOssConfig",
        "GptOssForCausalLM",
        "sinks, window, grouped heads",
        "text",
        _GROUPED | _WINDOWS | {"num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    Family("BERT", "BertConfig", "BertModel", "", "text", _STACK, since="5"),
    Family("RoBERTa", "RobertaConfig", "RobertaModel", "", "text", _STACK, since="5"),
    Family(
        "DistilBERT",
        "DistilBertConfig",
        "DistilBertModel",
        "",
        "text",
        {"vocab_size": VOCABULARY, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4},
        since="5",
    ),
    Family(
        "ALBERT",
        "AlbertConfig",
        "AlbertModel",
        "one module for all layers: its calls are the layers",
        "text",
        _STACK | {"embedding_size": 64},
        since="5",
    ),
    Family("ELECTRA", "ElectraConfig", "ElectraModel", "", "text", _STACK | {"embedding_size": 64}, since="5"),
    Family(
        "ModernBERT",
        "ModernBertConfig",
        "ModernBertModel",
        "window to both sides",
        "text",
        _STACK | {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 3, "sep_token_id": 4},
        since="5",
    ),
    Family(
        "T5", "T5Config", "T5ForConditionalGeneration", "relative position bias, no scale", "two texts", _T5, since="5"
    ),
    Family(
        "MT5",
        "MT5Config",
        "MT5ForConditionalGeneration",
        "relative position bias, no scale",
        "two texts",
        _T5,
        since="5",
    ),
    Family("BART", "BartConfig", "BartForConditionalGeneration", "", "two texts", _LONG_PAIR),
    Family("MBart", "MBartConfig", "MBartForConditionalGeneration", "", "two texts", _LONG_PAIR),
    Family("Marian", "MarianConfig", "MarianMTModel", "", "two texts", _LONG_PAIR),
    Family("M2M100", "M2M100Config", "M2M100ForConditionalGeneration", "", "two texts", _LONG_PAIR),
    Family("Pegasus", "PegasusConfig", "PegasusForConditionalGeneration", "", "two texts", _LONG_PAIR),
    Family(
        "Whisper",
        "WhisperConfig",
        "WhisperForConditionalGeneration",
        "",
        "sound and text",
        _PAIR | {"num_mel_bins": 8, "max_source_positions": 30, "max_target_positions": 32},
    ),
    Family("ViT", "ViTConfig", "ViTModel", "", "an image", _IMAGE),
    Family(
        "CLIP",
        "CLIPConfig",
        "CLIPModel",
        "two towers, that of text causal",
        "an image and text",
        {"text_config": _STACK, "vision_config": _IMAGE, "projection_dim": 16},
    ),
    Family("DINOv2", "Dinov2Config", "Dinov2Model", "", "an image", _IMAGE),
    Family(
        "Wav2Vec2",
        "Wav2Vec2Config",
        "Wav2Vec2Model",
        "",
        "sound",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "conv_dim": [16, 16],
            "conv_stride": [5, 2],
            "conv_kernel": [10, 3],
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
    ),
    Family("Bloom", "BloomConfig", "BloomForCausalLM", "ALiBi", settings=_GPT | {"hidden_size": 64}, since=""),
    Family("Falcon", "FalconConfig", "FalconForCausalLM", "one key head", settings=_STACK, since=""),
    Family("GPT-J", "GPTJConfig", "GPTJForCausalLM", "", settings=_GPT | {"rotary_dim": 8}, since=""),
    Family(
        "MPT",
        "MptConfig",
        "MptForCausalLM",
        "ALiBi",
        settings={"vocab_size": VOCABULARY, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
        since="",
    ),
    Family("DeBERTa", "DebertaConfig", "DebertaModel", "scores of content and of positions", settings=_STACK, since=""),
    Family(
        "DeBERTa-v2",
        "DebertaV2Config",
        "DebertaV2Model",
        "scores of content and of positions",
        settings=_STACK,
        since="",
    ),
    Family(
        "XLNet",
        "XLNetConfig",
        "XLNetModel",
        "relative positions, two streams",
        settings={"vocab_size": VOCABULARY, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 96},
        since="",
    ),
    Family(
        "Longformer",
        "LongformerConfig",
        "LongformerModel",
        "windows in chunks, and global tokens",
        settings=_STACK | {"attention_window": 8},
        since="",
    ),
)
"""All of them."""
