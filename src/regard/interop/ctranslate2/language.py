"""Our decoder-only language model as a model of CTranslate2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard.data.tokenizers import Tokenizer
from regard.errors import UnsupportedError
from regard.interop.ctranslate2.parts import (
    Spec,
    activation,
    check_precision,
    one_epsilon,
    put_embedding,
    put_feedforward,
    put_layer,
    put_norm,
    put_self_attention,
    save,
    specs,
)
from regard.interop.exported import SPECIALS_ARE_FOUND, python, text_side, write_readme
from regard.models.gpt import GPT


def write_generator(
    directory: Path,
    model: GPT,
    tokenizer: Tokenizer,
    begin: int | None,
    end: Sequence[int],
    precision: str = "float32",
) -> None:
    """Write files that `ctranslate2.Generator` opens, a tokenizer file, and a README that says how to generate.

    Args:
        directory: exists.
        model: any choice of norm, positions, heads and feed-forward networks.
        tokenizer: of its texts.
        begin: the token that stands before a text, or None.
        end: the tokens that end one.
        precision: of the stored weights, one of `PRECISIONS`.

    Raises:
        ArgumentError: there is no such precision.
        MissingExtraError: the extra `ctranslate2` is not installed.
        UnsupportedError: the library computes something else.
    """
    check_precision(precision)
    spec = generator_spec(model)
    side = text_side(tokenizer)
    vocabulary = side.tokens(model.config.vocabulary)
    unknown = next((one for one in (tokenizer.unk_id, tokenizer.pad_id) if one < len(vocabulary)), 0)

    def name(one: int) -> str:  # a tokenizer can have specials that the model hasn't: they are the unknown one
        return vocabulary[one if one < len(vocabulary) else unknown]

    ends = [name(one) for one in end]
    spec.register_vocabulary(vocabulary)
    spec.config.unk_token = name(tokenizer.unk_id)
    spec.config.bos_token = name(tokenizer.bos_id if begin is None else begin)
    spec.config.eos_token = ends[0] if ends else name(tokenizer.eos_id)
    save(spec, directory, precision)
    side.save(directory)
    _write_readme(directory, "" if begin is None else f"[{name(begin)!r}] + ", ends, model.config.max_length, precision)


def generator_spec(model: GPT) -> Spec:
    """The specification of a model, filled with its weights; the vocabulary is still to be registered.

    Raises:
        MissingExtraError: the extra `ctranslate2` is not installed.
        UnsupportedError: the wavelengths of its positions are longer than its base says.
    """
    config = model.config
    if model.rotary is not None and model.rotary.stretch is not None:
        raise UnsupportedError(f"rotary_factor = {config.rotary_factor} is not written for CTranslate2: export to onnx")
    turned: dict[str, Any] = {}
    if model.rotary is not None:  # all numbers of a head, pairs from its two halves
        turned = {"rotary_dim": 0, "rotary_interleave": False, "rotary_base": config.rotary_base}
    spec = specs().transformer_spec.TransformerDecoderModelSpec.from_config(
        config.layers,
        config.heads,
        pre_norm=True,
        activation=activation(config.activation),
        ffn_glu=config.feedforward_kind == "gated",
        rms_norm=config.norm == "rms",
        num_heads_kv=None if config.key_heads == config.heads else config.key_heads,
        head_dim=config.head_width,
        **turned,
    )
    put_embedding(spec.decoder, spec.decoder.embeddings, model.embedding, scaled=False)
    for layer, part in zip(model.layers, spec.decoder.layer, strict=True):
        put_self_attention(part.self_attention, layer.attention)
        put_norm(part.self_attention.layer_norm, layer.attention_residual.norm)
        put_feedforward(part.ffn, layer.feedforward, layer.feedforward_residual.norm)
    put_norm(spec.decoder.layer_norm, model.norm)
    put_layer(spec.decoder.projection, model.output)
    spec.config.layer_norm_epsilon = one_epsilon(model)
    return spec


def _write_readme(directory: Path, begin: str, ends: list[str], longest: int, precision: str) -> None:
    code = f"""
import ctranslate2, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
prompt = {begin}tokenizer.encode("Once upon a time", add_special_tokens=False).tokens
assert 0 < len(prompt) < {longest}, f"a prompt has 1 to {longest - 1} tokens, not {{len(prompt)}}"
options = {{"max_length": {longest} - len(prompt), "sampling_topk": 1, "end_token": {ends}}}  # sampling_topk=0 draws
found = ctranslate2.Generator(".").generate_batch([prompt], include_prompt_in_result=False, **options)[0]
print(tokenizer.decode(found.sequences_ids[0]))
"""
    write_readme(
        directory,
        (
            "# A language model for CTranslate2",
            f"Written by `regard export --to ctranslate2`; weights are stored as {precision}. With `pip install "
            "ctranslate2 tokenizers`, in this directory:",
            python(code),
            f"A text has at most {longest} tokens, its prompt included.",
            SPECIALS_ARE_FOUND,
        ),
    )
