"""The peer: Hugging Face's Marian of the same shape as a regard Transformer, with the same weights."""

import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel
from transformers.utils import logging

from regard.models.transformer import Transformer

logging.set_verbosity_error()


def marian_like(model: Transformer) -> MarianMTModel:
    """A Marian model that computes the same function (post-norm, sinusoidal positions, one shared table).

    Its position table is overwritten with ours: Marian has sines and cosines in two halves, the paper interleaves them.
    """
    c = model.config
    assert c.norm == "post" and c.positions == "sinusoidal" and c.shared == "all" and c.key_heads in (None, c.heads)
    config = MarianConfig(
        vocab_size=c.target_vocabulary,
        d_model=c.width,
        encoder_layers=c.encoder_layers,
        decoder_layers=c.decoder_layers,
        encoder_attention_heads=c.heads,
        decoder_attention_heads=c.heads,
        encoder_ffn_dim=c.feedforward,
        decoder_ffn_dim=c.feedforward,
        activation_function="relu",
        dropout=c.dropout,
        attention_dropout=c.attention_dropout,
        activation_dropout=0.0,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        max_position_embeddings=c.max_length,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        attn_implementation="sdpa",
    )
    peer = MarianMTModel(config)
    with torch.no_grad():
        peer.model.shared.weight.copy_(model.encoder.embedding.tokens.weight)
        for own_stack, stack in ((model.encoder, peer.model.encoder), (model.decoder, peer.model.decoder)):
            stack.embed_positions.weight.copy_(own_stack.embedding.positions.table)
            for own, layer in zip(own_stack.layers, stack.layers, strict=True):
                _copy_attention(own.attention, layer.self_attn)
                _copy(own.attention_residual.norm, layer.self_attn_layer_norm)
                _copy(own.feedforward.inner, layer.fc1)
                _copy(own.feedforward.outer, layer.fc2)
                _copy(own.feedforward_residual.norm, layer.final_layer_norm)
        for own, layer in zip(model.decoder.layers, peer.model.decoder.layers, strict=True):
            _copy_attention(own.cross, layer.encoder_attn)
            _copy(own.cross_residual.norm, layer.encoder_attn_layer_norm)
    peer.tie_weights()
    return peer


def _copy(own: nn.Module, other: nn.Module) -> None:
    other.weight.copy_(own.weight)
    other.bias.copy_(own.bias)


def _copy_attention(own: nn.Module, other: nn.Module) -> None:
    parts = (other.q_proj, other.k_proj, other.v_proj)
    for weight, bias, part in zip(own.input.weight.chunk(3), own.input.bias.chunk(3), parts, strict=True):
        part.weight.copy_(weight)
        part.bias.copy_(bias)
    _copy(own.output, other.out_proj)
