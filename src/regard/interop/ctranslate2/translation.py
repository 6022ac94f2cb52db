"""Our encoder–decoder Transformer as a model of CTranslate2."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from regard.data.tokenizers import Tokenizer
from regard.interop.ctranslate2.parts import (
    Spec,
    array,
    one_epsilon,
    put_cross_attention,
    put_layer,
    put_norm,
    put_self_attention,
    save,
    specs,
)
from regard.interop.exported import Side, python, sides, write_readme
from regard.layers import FeedForward, PositionedEmbedding
from regard.models.transformer import Transformer


def write_translator(
    directory: Path,
    model: Transformer,
    source: Tokenizer,
    target: Tokenizer,
    decoding: Mapping[str, Any],
    precision: str = "float32",
) -> None:
    """Write a directory that `ctranslate2.Translator` opens, with tokenizer files and a README that says how.

    Args:
        directory: exists.
        model: any choice of norm, positions, heads and shared tables.
        source, target: the tokenizers; the same object where they are one.
        decoding: the model's defaults: beam, penalty, alpha.
        precision: of the stored weights, one of `PRECISIONS`.

    Raises:
        ArgumentError: there is no such precision.
        MissingExtraError: the extra `ctranslate2` is not installed.
    """
    spec = translator_spec(model)
    here, there = sides(source, target)
    config = model.config
    vocabulary, other = here.tokens(config.source_vocabulary), there.tokens(config.target_vocabulary)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(other)
    spec.config.unk_token = other[target.unk_id]
    spec.config.bos_token = spec.config.decoder_start_token = other[target.bos_id]
    spec.config.eos_token = other[target.eos_id]
    # one name ends sequences on both sides; where a source ends otherwise, its end is put there by who feeds it
    ends_alike = vocabulary[source.eos_id] == other[target.eos_id]
    spec.config.add_source_eos = ends_alike
    save(spec, directory, precision)
    for side in {here.file: here, there.file: there}.values():
        side.save(directory)
    end = "" if ends_alike else f" + [{vocabulary[source.eos_id]!r}]"
    _write_readme(directory, here, there, end, decoding, config.max_length - 1, precision)


def translator_spec(model: Transformer) -> Spec:
    """The specification of a model, filled with its weights; vocabularies are still to be registered.

    Raises:
        MissingExtraError: the extra `ctranslate2` is not installed.
    """
    kinds, config = specs().transformer_spec, model.config
    groups = config.key_heads if config.key_heads not in (None, config.heads) else None
    choices = {
        "pre_norm": config.norm == "pre",
        "activation": specs().common_spec.Activation.RELU,
        "num_heads_kv": groups,
    }
    spec = kinds.TransformerSpec(
        kinds.TransformerEncoderSpec(config.encoder_layers, config.heads, **choices),
        kinds.TransformerDecoderSpec(config.decoder_layers, config.heads, **choices),
    )
    _put_embedding(spec.encoder, spec.encoder.embeddings[0], model.encoder.embedding)
    _put_embedding(spec.decoder, spec.decoder.embeddings, model.decoder.embedding)
    put_layer(spec.decoder.projection, model.output)
    for layer, part in zip(model.encoder.layers, spec.encoder.layer, strict=True):
        put_self_attention(part.self_attention, layer.attention)
        put_norm(part.self_attention.layer_norm, layer.attention_residual.norm)
        _put_feedforward(part.ffn, layer.feedforward, layer.feedforward_residual.norm)
    for layer, part in zip(model.decoder.layers, spec.decoder.layer, strict=True):
        put_self_attention(part.self_attention, layer.attention)
        put_norm(part.self_attention.layer_norm, layer.attention_residual.norm)
        put_cross_attention(part.attention, layer.cross)
        put_norm(part.attention.layer_norm, layer.cross_residual.norm)
        _put_feedforward(part.ffn, layer.feedforward, layer.feedforward_residual.norm)
    if config.norm == "pre":
        put_norm(spec.encoder.layer_norm, model.encoder.norm)
        put_norm(spec.decoder.layer_norm, model.decoder.norm)
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    spec.config.layer_norm_epsilon = one_epsilon({norm.eps for norm in norms})
    return spec


def _put_embedding(stack: Spec, table: Spec, embedding: PositionedEmbedding) -> None:
    # in float32: scaled by the engine, √E times the vector, as here
    table.weight = array(embedding.tokens.weight)
    stack.scale_embeddings = True
    stack.position_encodings.encodings = array(embedding.positions.table)


def _put_feedforward(spec: Spec, network: FeedForward, norm: nn.LayerNorm) -> None:
    put_layer(spec.linear_0, network.inner)
    put_layer(spec.linear_1, network.outer)
    put_norm(spec.layer_norm, norm)


def _write_readme(
    directory: Path, source: Side, target: Side, end: str, decoding: Mapping[str, Any], longest: int, precision: str
) -> None:
    alpha = {"none": 0.0}.get(decoding["penalty"], decoding["alpha"])
    code = f"""
import ctranslate2, tokenizers
source, target = (tokenizers.Tokenizer.from_file(name) for name in ("{source.file}", "{target.file}"))
tokens = source.encode("Two dogs play.", add_special_tokens=False).tokens{end}
found = ctranslate2.Translator(".").translate_batch(
    [tokens], beam_size={decoding["beam"]}, length_penalty={alpha}, max_decoding_length={longest}
)[0]
print(target.decode([target.token_to_id(token) for token in found.hypotheses[0]]))
"""
    write_readme(
        directory,
        "# A translation model for CTranslate2",
        f"Written by `regard export --to ctranslate2`, weights in {precision}. It needs `pip install ctranslate2 "
        "tokenizers`. In this directory:",
        python(code),
        f"Sources and translations have at most {longest} tokens. White space at both ends of a text is not part of "
        "it: `text.strip()`.",
    )
