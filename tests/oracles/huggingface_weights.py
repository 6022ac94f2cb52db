"""Small Hugging Face models of each family with random weights, far from uniform, and tokenizers for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

V = 41
PAD, BOS, EOS = 1, 0, 2
TOKENS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
STACKS = {
    **TOKENS,
    "vocab_size": V,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 48,
    "decoder_start_token_id": BOS,
    "forced_eos_token_id": None,
}
SMALL = {
    "vocab_size": V,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": 48,
}


@dataclass(frozen=True)
class Case:
    """A model: its configuration's class and settings, and its own class."""

    config: str
    model: str
    settings: dict[str, Any]


ENCODER_DECODERS = {
    "marian": Case(
        "MarianConfig", "MarianMTModel", {**STACKS, "scale_embedding": True, "activation_function": "swish"}
    ),
    "marian, two vocabularies": Case(
        "MarianConfig",
        "MarianMTModel",
        {**STACKS, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 37},
    ),
    "marian, nothing shared": Case(
        "MarianConfig",
        "MarianMTModel",
        {**STACKS, "share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "decoder_vocab_size": 37},
    ),
    "bart": Case("BartConfig", "BartForConditionalGeneration", {**STACKS}),
    "bart, scaled": Case(
        "BartConfig",
        "BartForConditionalGeneration",
        {**STACKS, "scale_embedding": True, "activation_function": "gelu_new"},
    ),
    "pegasus": Case(
        "PegasusConfig",
        "PegasusForConditionalGeneration",
        {**STACKS, "scale_embedding": True, "activation_function": "relu"},
    ),
    "m2m_100": Case("M2M100Config", "M2M100ForConditionalGeneration", {**STACKS}),
}
LANGUAGE_MODELS = {
    "gpt2": Case(
        "GPT2Config",
        "GPT2LMHeadModel",
        {"vocab_size": V, "n_positions": 48, "n_embd": 24, "n_layer": 2, "n_head": 4, **TOKENS},
    ),
    "gpt2, own output": Case(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            **TOKENS,
            "vocab_size": V,
            "n_positions": 48,
            "n_embd": 24,
            "n_layer": 2,
            "n_head": 3,
            "n_inner": 40,
            "activation_function": "relu",
            "tie_word_embeddings": False,
            "layer_norm_epsilon": 1e-3,
        },
    ),
    "llama": Case("LlamaConfig", "LlamaForCausalLM", {**SMALL, **TOKENS, "num_key_value_heads": 2}),
    "llama, biased": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {
            **SMALL,
            **TOKENS,
            "head_dim": 10,
            "attention_bias": True,
            "mlp_bias": True,
            "rms_norm_eps": 1e-3,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 321.0},
        },
    ),
    "llama, longer": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {
            **SMALL,
            **TOKENS,
            "head_dim": 12,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 100.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "llama, interpolated": Case(
        "LlamaConfig",
        "LlamaForCausalLM",
        {**SMALL, **TOKENS, "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
    ),
    "qwen2": Case("Qwen2Config", "Qwen2ForCausalLM", {**SMALL, **TOKENS, "num_key_value_heads": 1}),
}
BERTS = {
    "masked": Case("BertConfig", "BertForMaskedLM", {**SMALL}),
    "pretraining": Case("BertConfig", "BertForPreTraining", {**SMALL, "hidden_act": "relu"}),
    "classifier": Case("BertConfig", "BertForSequenceClassification", {**SMALL, "num_labels": 3}),
    "tagger": Case("BertConfig", "BertForTokenClassification", {**SMALL, "num_labels": 5, "type_vocab_size": 3}),
    "bare": Case("BertConfig", "BertModel", {**SMALL, "layer_norm_eps": 1e-3}),
}
ALL = {**ENCODER_DECODERS, **LANGUAGE_MODELS, **BERTS}


def make(case: Case, seed: int = 0) -> Any:
    """The model, in evaluation mode, whose every weight matters."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = getattr(transformers, case.model)(getattr(transformers, case.config)(**case.settings)).eval()
    with torch.no_grad():
        for name, one in model.named_parameters():
            if "embed_positions" in name and ("Marian" in case.model or "Pegasus" in case.model):
                continue  # sinusoids
            noise = torch.randn(one.shape, generator=generator)
            one.copy_(0.25 * noise if one.ndim > 1 else one + 0.3 * noise)
        for name, one in model.named_buffers():
            if name == "final_logits_bias" and "bart" not in case.config.lower():
                one.normal_(generator=generator)
    return model


def saved(model: Any, directory: Path, **generation: Any) -> Path:
    """A directory with the model."""
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(directory)
    return directory


def batch(rows: int = 3, longest: int = 9, below: int = 37, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Ids (B, L) without special ones, padded at the end, and lengths (B,)."""
    ids = torch.randint(3, below, (rows, longest), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([longest, 4, 6, 1, 8][:rows])
    return ids.masked_fill(torch.arange(longest)[None] >= lengths[:, None], PAD), lengths
