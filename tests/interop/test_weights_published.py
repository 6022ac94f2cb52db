"""Configurations with the fields that published ones have are understood; their sizes are not always the published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regard.interop.huggingface.weights.generation import Generation, translation_content
from regard.interop.huggingface.weights.known import FAMILIES

PUBLISHED = {
    "like opus-mt-en-de": """
        {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0, "decoder_layers": 6,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1, "d_model": 512, "init_std": 0.02,
        "is_encoder_decoder": true, "max_position_embeddings": 512, "num_hidden_layers": 6, "use_cache": true,
        "add_bias_logits": false, "classif_dropout": 0.0, "classifier_dropout": 0.0, "gradient_checkpointing": false,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "_name_or_path": "x",
        "activation_function": "swish", "add_final_layer_norm": false, "model_type": "marian", "architectures":
        ["MarianMTModel"], "bad_words_ids": [[58100]], "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id":
        58100, "decoder_vocab_size": 58101, "forced_eos_token_id": 0, "max_length": 512, "normalize_before": false,
        "normalize_embedding": false, "num_beams": 6, "pad_token_id": 58100, "scale_embedding": true,
        "share_encoder_decoder_embeddings": true, "static_position_embeddings": true, "transformers_version":
        "4.22.0.dev0", "vocab_size": 58101}
    """,
    "like bart-large-cnn": """
        {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0, "decoder_layers": 6,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1, "d_model": 512, "init_std": 0.02,
        "is_encoder_decoder": true, "max_position_embeddings": 512, "num_hidden_layers": 6, "use_cache": true,
        "add_bias_logits": false, "classif_dropout": 0.0, "classifier_dropout": 0.0, "gradient_checkpointing": false,
        "_num_labels": 3, "activation_function": "gelu", "add_final_layer_norm": false, "model_type": "bart",
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2, "early_stopping": true,
        "force_bos_token_to_be_generated": true, "forced_eos_token_id": 2, "length_penalty": 2.0, "max_length": 142,
        "min_length": 56, "no_repeat_ngram_size": 3, "normalize_before": false, "normalize_embedding": true,
        "num_beams": 4, "output_past": true, "prefix": " ", "replacing_rate": 0, "scale_embedding": false,
        "static_position_embeddings": false, "student_decoder_layers": null, "student_encoder_layers": null,
        "task_specific_params": {"summarization": {"num_beams": 4}}, "vocab_size": 50264, "torch_dtype": "float32"}
    """,
    "like pegasus-xsum": """
        {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0, "decoder_layers": 6,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1, "d_model": 512, "init_std": 0.02,
        "is_encoder_decoder": true, "max_position_embeddings": 512, "num_hidden_layers": 6, "use_cache": true,
        "add_bias_logits": false, "classif_dropout": 0.0, "classifier_dropout": 0.0, "gradient_checkpointing": false,
        "activation_function": "relu", "add_final_layer_norm": true, "extra_pos_embeddings": 1, "num_beams": 8,
        "normalize_before": true, "normalize_embedding": false, "scale_embedding": true, "model_type": "pegasus",
        "static_position_embeddings": true, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        "decoder_start_token_id": 0, "forced_eos_token_id": 1, "max_length": 64, "length_penalty": 0.6,
        "force_bos_token_to_be_generated": false, "vocab_size": 96103}
    """,
    "like m2m100_418M": """
        {"encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layerdrop": 0.0, "encoder_layers": 6,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0, "decoder_layers": 6,
        "activation_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.1, "d_model": 512, "init_std": 0.02,
        "is_encoder_decoder": true, "max_position_embeddings": 512, "num_hidden_layers": 6, "use_cache": true,
        "add_bias_logits": false, "classif_dropout": 0.0, "classifier_dropout": 0.0, "gradient_checkpointing": false,
        "activation_function": "relu", "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "num_beams": 5,
        "decoder_start_token_id": 2, "early_stopping": true, "max_length": 200, "model_type": "m2m_100",
        "scale_embedding": true, "vocab_size": 128112, "torch_dtype": "float32"}
    """,
    "like gpt2": """
        {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id":
        50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
        "resid_pdrop": 0.1, "summary_activation": null, "vocab_size": 50257, "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true, "task_specific_params":
        {"text-generation": {"do_sample": true}}}
    """,
    "like Llama-2-7b": """
        {"architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008, "vocab_size": 32000,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "use_cache": true,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float16", "attention_bias": false}
    """,
    "like Qwen2-0.5B": """
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id":
        151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 131072, "max_window_layers": 24, "vocab_size": 151936, "model_type": "qwen2",
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "use_cache": true, "use_sliding_window": false, "use_mrope": false}
    """,
    "like llama-7b": """
        {"architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 2048,
        "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
        "pad_token_id": 0, "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "torch_dtype": "float16",
        "transformers_version": "4.28.0.dev0", "use_cache": true, "vocab_size": 32000}
    """,
    "like Llama-3.2-1B": """
        {"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id":
        128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range":
        0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache":
        true, "unsloth_fixed": true, "vocab_size": 128256}
    """,
    "like bert-base-uncased": """
        {"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": false,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "vocab_size": 30522,
        "position_embedding_type": "absolute", "type_vocab_size": 2, "use_cache": true}
    """,
    "like bert-base-multilingual-cased": """
        {"architectures": ["BertForMaskedLM"], "directionality": "bidi", "hidden_size": 768, "model_type": "bert",
        "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3, "vocab_size": 119547,
        "pooler_size_per_head": 128, "pooler_type": "first_token_transform"}
    """,
}
CONFIGS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in PUBLISHED.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_fields_of_published_configurations_are_understood(name: str) -> None:
    content = CONFIGS[name]
    fields = FAMILIES[content["model_type"]].fields
    values = fields.understood(content, Path("config.json"))
    assert all(values[key] == value for key, value in content.items() if key in fields.read)


def test_what_older_directories_say_of_generating() -> None:
    file = Path("config.json")
    marian = translation_content(Generation(file, CONFIGS["like opus-mt-en-de"]), 512, 58101, 58101)
    expected = {"beam": 6, "alpha": 1.0, "max_length": 511, "min_length": 0, "stopping": "behind", "no_repeat_ngram": 0}
    assert marian["decoding"].items() >= (expected | {"forbidden": [[58100]], "forced_last": 0}).items()
    assert marian["decoding"]["forced_first"] is None
    assert (marian["frame"]["start"], marian["frame"]["end"], marian["frame"]["pad"]) == (58100, 0, 58100)
    bart = translation_content(Generation(file, CONFIGS["like bart-large-cnn"]), 1024, 50264, 50264)["decoding"]
    assert (bart["beam"], bart["alpha"], bart["stopping"], bart["no_repeat_ngram"]) == (4, 2.0, "full", 3)
    assert (bart["max_length"], bart["min_length"], bart["forced_first"], bart["forced_last"]) == (141, 55, 0, 2)
