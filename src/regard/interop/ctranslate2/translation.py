"""Our encoder–decoder Transformer as a model of CTranslate2."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from regard.data.tokenizers import Tokenizer
from regard.interop.ctranslate2.parts import (
    Spec,
    activation,
    check_precision,
    one_epsilon,
    put_cross_attention,
    put_embedding,
    put_feedforward,
    put_layer,
    put_norm,
    put_self_attention,
    save,
    specs,
)
from regard.interop.exported import (
    SPECIALS_ARE_FOUND,
    Side,
    differences,
    least_length,
    most_length,
    python,
    sentence_sides,
    write_readme,
)
from regard.layers import SelfAttentionBlock
from regard.models.transformer import Transformer, TransformerConfig
from regard.models.transformer_embedding import NormalisedEmbedding
from regard.tasks.translation import Specials

PATIENCE: Final = 2
"""The library ends a search when `patience` times as many translations as the beam is wide have ended. With 1 that is
`WhenFull`, which finds worse translations than `WhenBehind`, the rule of models here, which it lacks."""


def write_translator(
    directory: Path,
    model: Transformer,
    source: Tokenizer,
    target: Tokenizer,
    specials: Specials,
    decoding: Mapping[str, Any],
    precision: str = "float32",
) -> tuple[str, ...]:
    """Write files that `ctranslate2.Translator` opens, tokenizer files, and a README that says how to translate.

    Args:
        directory: exists.
        model: any choice of norm, positions, heads, activation and shared tables.
        source, target: the tokenizers; the same object where they are one.
        specials: what stands around texts.
        decoding: the model's defaults: beam, penalty, alpha; see `regard.runs.frames` for more.
        precision: of the stored weights, one of `PRECISIONS`.

    Returns:
        A sentence for each of the defaults that the program in the README doesn't have, as the library lacks it.

    Raises:
        ArgumentError: there is no such precision.
        MissingExtraError: the extra `ctranslate2` is not installed.
    """
    check_precision(precision)
    spec = translator_spec(model)
    here, there = sentence_sides(source, target)
    config = cast(TransformerConfig, model.config)
    vocabulary, other = here.tokens(config.source_vocabulary), there.tokens(config.target_vocabulary)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(other)
    spec.config.unk_token = other[target.unk_id] if target.unk_id < len(other) else other[specials.pad]
    spec.config.bos_token = spec.config.decoder_start_token = other[specials.bos]
    spec.config.eos_token = other[specials.eos]
    # one name ends sequences on both sides; where a source ends otherwise, who feeds it puts its end there
    alike = vocabulary[specials.source_eos] == other[specials.eos]
    spec.config.add_source_eos = alike
    save(spec, directory, precision)
    for side in {here.file: here, there.file: there}.values():
        side.save(directory)
    begin = [vocabulary[one] for one in specials.source_begin]
    end = [] if alike else [vocabulary[specials.source_eos]]
    framed = " + ".join([*([str(begin)] if begin else []), "tokens", *([str(end)] if end else [])])
    positions = config.max_length - 1 - len(begin)
    options, longest = _options(config, decoding, other, positions, specials.eos)
    notes = _notes(decoding, specials.eos)
    _write_readme(directory, (here, there), framed, options, longest, precision, notes)
    return notes


def translator_spec(model: Transformer) -> Spec:
    """The specification of a model, filled with its weights; vocabularies are still to be registered.

    Raises:
        MissingExtraError: the extra `ctranslate2` is not installed.
    """
    kinds, config = specs().transformer_spec, cast(TransformerConfig, model.config)
    choices = {
        "pre_norm": config.norm == "pre",
        "activation": activation(config.activation),
        "layernorm_embedding": config.embedding_norm,
        "num_heads_kv": None if config.key_heads == config.heads else config.key_heads,
    }
    spec = kinds.TransformerSpec(
        kinds.TransformerEncoderSpec(config.encoder_layers, config.heads, **choices),
        kinds.TransformerDecoderSpec(config.decoder_layers, config.heads, **choices),
    )
    for stack, table, own in (
        (spec.encoder, spec.encoder.embeddings[0], model.encoder.embedding),
        (spec.decoder, spec.decoder.embeddings, model.decoder.embedding),
    ):
        put_embedding(stack, table, own, config.embedding_scale)
        if isinstance(own, NormalisedEmbedding):
            put_norm(stack.layernorm_embedding, own.norm)
    for layer, part in zip(cast(list[SelfAttentionBlock], model.encoder.layers), spec.encoder.layer, strict=True):
        put_self_attention(part.self_attention, layer.attention)
        put_norm(part.self_attention.layer_norm, layer.attention_residual.norm)
        put_feedforward(part.ffn, layer.feedforward, layer.feedforward_residual.norm)
    for said, part in zip(model.decoder.layers, spec.decoder.layer, strict=True):
        put_self_attention(part.self_attention, said.attention)
        put_norm(part.self_attention.layer_norm, said.attention_residual.norm)
        put_cross_attention(part.attention, said.cross)
        put_norm(part.attention.layer_norm, said.cross_residual.norm)
        put_feedforward(part.ffn, said.feedforward, said.feedforward_residual.norm)
    if config.norm == "pre":
        put_norm(spec.encoder.layer_norm, model.encoder.norm)
        put_norm(spec.decoder.layer_norm, model.decoder.norm)
    put_layer(spec.decoder.projection, model.output)
    spec.config.layer_norm_epsilon = one_epsilon(model)
    return spec


def _options(
    config: TransformerConfig, decoding: Mapping[str, Any], target: list[str], positions: int, end: int
) -> tuple[dict[str, Any], str]:
    """The arguments of `translate_batch` that come closest to the model's defaults, and Python for the greatest length
    of a translation."""
    wide = decoding["beam"] > 1
    first, last = decoding.get("forced_first"), decoding.get("forced_last")
    options: dict[str, Any] = {
        "beam_size": decoding["beam"],
        "patience": PATIENCE if wide and decoding.get("stopping") != "full" else 1,
        "length_penalty": 0.0 if decoding["penalty"] == "none" else decoding["alpha"],
        "min_decoding_length": least_length(decoding, positions),  # the library's own is 1
        "max_input_length": config.max_length,
    }
    if forbidden := decoding.get("forbidden"):
        options["suppress_sequences"] = [[target[one] for one in phrase] for phrase in forbidden]
    if decoding.get("no_repeat_ngram"):
        options["no_repeat_ngram_size"] = decoding["no_repeat_ngram"]
    if first is not None:
        options["target_prefix"] = [[target[first]]]
    longest = most_length(decoding, positions, "len(tokens)")
    # a forced end leaves a place less for the text
    return options, f"max({longest} - 1, 1)" if last == end else longest


def _notes(decoding: Mapping[str, Any], end: int) -> tuple[str, ...]:
    """What the library doesn't do of the model's defaults."""
    notes = []
    wide = decoding["beam"] > 1
    if wide and decoding["penalty"] == "gnmt" and decoding["alpha"]:
        notes.append(
            "decoding.penalty = 'gnmt' is not taken over: CTranslate2 divides by the length to the power alpha "
            f"({decoding['alpha']}), which prefers longer translations"
        )
    if wide and (stopping := decoding.get("stopping", "behind")) != "full":
        notes.append(
            f"decoding.stopping = {stopping!r} is not taken over: CTranslate2 ends a search after `patience` times "
            "`beam_size` translations; patience=1 is `regard translate --stopping full`"
        )
    if (last := decoding.get("forced_last")) is not None and (wide or last != end):
        notes.append(
            f"decoding.forced_last = {last} is not taken over: CTranslate2 forces no token at the last place of a "
            "translation that reaches the greatest length"
        )
    rules = [
        name for name in ("no_repeat_ngram", "forbidden") if decoding.get(name) and not decoding.get("renormalize")
    ]
    if wide and (rules := [*rules, *(["min_length"] if decoding.get("min_length") else [])]):
        notes.append(
            f"decoding.{' and '.join(rules)}: in CTranslate2 the probability of tokens that are forbidden goes to the "
            "others, which are ranked otherwise then"
        )
    return tuple(notes)


def _write_readme(
    directory: Path,
    sides: tuple[Side, Side],
    framed: str,
    options: Mapping[str, Any],
    longest: str,
    precision: str,
    notes: Sequence[str],
) -> None:
    files = tuple(side.file for side in sides)
    code = f"""
import ctranslate2, tokenizers
source, target = (tokenizers.Tokenizer.from_file(name) for name in {files!r})
text, options = "Two dogs play.", {dict(options)!r}
tokens = source.encode(text, add_special_tokens=False).tokens
longest = {longest}
found = ctranslate2.Translator(".").translate_batch([{framed}], max_decoding_length=longest, **options)[0]
print(target.decode([target.token_to_id(token) for token in found.hypotheses[0]]))
"""
    write_readme(
        directory,
        (
            "# A translation model for CTranslate2",
            f"Written by `regard export --to ctranslate2`; weights are stored as {precision}. With `pip install "
            "ctranslate2 tokenizers`, in this directory:",
            python(code),
            differences(notes),
            f"Sources and translations have at most {options['max_input_length']} positions.",
            SPECIALS_ARE_FOUND,
        ),
    )
