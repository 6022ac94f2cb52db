"""Marian, BART, Pegasus and M2M-100 as the Transformer of this package.

| family  | LayerNorm | positions                    | embedding                       |
|---------|-----------|------------------------------|---------------------------------|
| Marian  | after     | [sin | cos]                  | one table, or one each          |
| BART    | after     | learned, from row 2          | one table, LayerNorm on the sum |
| Pegasus | before    | [sin | cos]                  | one table                       |
| M2M-100 | before    | [sin | cos] of tensor2tensor | one table                       |

Marian and Pegasus have all sines of a position before all cosines, while here they take turns: the numbers of the
residual stream are put in another order, in every weight that reads or writes it. That gives an equal model, as nothing
but the positions depends on the order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from regard.errors import CheckpointError, UnsupportedError
from regard.interop.huggingface.weights.family import Family, Given, Opened, Written, none_fits, with_prefix
from regard.interop.huggingface.weights.fields import THEIR_ACTIVATIONS, Fields, activation, equal
from regard.interop.huggingface.weights.generation import translation_content
from regard.interop.huggingface.weights.table import SAME, Below, Form, Joined, Reordered, Row, Table, Weight
from regard.layers.positions import sinusoids
from regard.models.transformer import TransformerConfig, build_transformer
from regard.models.transformer_embedding import Tensor2TensorPositions


@dataclass(frozen=True)
class Part:
    """A module with weight and bias in a layer.

    Attributes:
        ours, theirs: names in a layer; several of theirs are joined.
        weight, bias: the axis of our tensor that is the residual stream, None if there is none.
    """

    ours: str
    theirs: tuple[str, ...]
    weight: int | None
    bias: int | None


ENCODER_LAYER: Final = (
    Part("attention.input", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), 1, None),
    Part("attention.output", ("self_attn.out_proj",), 0, 0),
    Part("attention_residual.norm", ("self_attn_layer_norm",), 0, 0),
    Part("feedforward.inner", ("fc1",), 1, None),
    Part("feedforward.outer", ("fc2",), 0, 0),
    Part("feedforward_residual.norm", ("final_layer_norm",), 0, 0),
)
DECODER_LAYER: Final = (
    *ENCODER_LAYER,
    Part("cross.input", ("encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"), 1, None),
    Part("cross.output", ("encoder_attn.out_proj",), 0, 0),
    Part("cross_residual.norm", ("encoder_attn_layer_norm",), 0, 0),
)
HARMLESS: Final = frozenset(
    {"add_bias_logits", "replacing_rate", "student_encoder_layers", "student_decoder_layers", "save_step"}
)
"""Fields that say how a model came about: from Marian, or by distillation."""
EMBEDDING_NORM: Final = Part("embedding.norm", ("layernorm_embedding",), 0, 0)
LAST_NORM: Final = Part("norm", ("layer_norm",), 0, 0)
BIAS: Final = "final_logits_bias"
FIRST_ROW: Final = 2  # of BART's table of positions that is one of a position

SIDES: Final = ("encoder", "decoder")
SHARED, HEAD = "model.shared.weight", "lm_head.weight"
SOURCE, TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"


@dataclass(frozen=True)
class Shape:
    """What makes a family.

    Attributes:
        model_type: its name in config.json.
        model: its class with an output.
        base: the class without one, whose output is the table of its embedding.
        norm, positions: as in `TransformerConfig`.
        embedding_norm: whether there is LayerNorm on the embedding.
        apart: whether the two languages may have a table each.
        scaled, activation, vocabulary: what transformers takes where config.json doesn't say it.
    """

    model_type: str
    model: str
    base: str
    norm: str
    positions: str
    embedding_norm: bool
    apart: bool
    scaled: bool
    activation: str
    vocabulary: int

    @property
    def reordered(self) -> bool:
        """Whether the residual stream has another order there."""
        return self.positions == "sinusoidal"

    def fields(self) -> Fields:
        """What is understood of config.json."""
        read: dict[str, tuple[type, Any]] = {
            "vocab_size": (int, self.vocabulary),
            "max_position_embeddings": (int, 1024),
            "d_model": (int, 1024),
            "encoder_layers": (int, 12),
            "decoder_layers": (int, 12),
            "encoder_attention_heads": (int, 16),
            "decoder_attention_heads": (int, 16),
            "encoder_ffn_dim": (int, 4096),
            "decoder_ffn_dim": (int, 4096),
            "activation_function": (str, self.activation),
            "scale_embedding": (bool, self.scaled),
            "dropout": (float, 0.1),
            "attention_dropout": (float, 0.1 if self.model_type == "m2m_100" else 0.0),
            "tie_word_embeddings": (bool, True),
        }
        if self.apart:
            read |= {"decoder_vocab_size": (int, None), "share_encoder_decoder_embeddings": (bool, True)}
        pre = self.norm == "pre"
        # what fairseq's and Marian's conversions write beside: what the family is anyway
        must: dict[str, tuple[Any, ...]] = {
            "normalize_before": (None, pre),
            "normalize_embedding": (None, self.embedding_norm),
            "add_final_layer_norm": (None, pre),
        }
        return Fields(read, must, HARMLESS)

    def problem(self, config: TransformerConfig, pad: int) -> str | None:
        """Why a Transformer of ours, with this id of the padding, is none of this family, or None."""
        counted = self.positions == "tensor2tensor"
        fits = {
            f"norm = {config.norm!r}": config.norm == self.norm,
            f"positions = {config.positions!r}": config.positions == self.positions,
            f"embedding_norm = {config.embedding_norm}": config.embedding_norm == self.embedding_norm,
            f"shared = {config.shared!r}": self.apart or config.shared == "all",
            f"key_heads = {config.key_heads}": config.key_heads in (None, config.heads),
            f"output_bias = {config.output_bias}": not (counted and config.output_bias),
            f"padding with the id {pad}": not counted or pad == Tensor2TensorPositions.FIRST - 1,
        }
        return next((name for name, fine in fits.items() if not fine), None)


MARIAN: Final = Shape(
    model_type="marian",
    model="MarianMTModel",
    base="MarianModel",
    norm="post",
    positions="sinusoidal",
    embedding_norm=False,
    apart=True,
    scaled=False,
    activation="gelu",
    vocabulary=58101,
)
BART: Final = replace(
    MARIAN,
    model_type="bart",
    model="BartForConditionalGeneration",
    base="BartModel",
    positions="learned",
    embedding_norm=True,
    apart=False,
    vocabulary=50265,
)
PEGASUS: Final = replace(
    MARIAN,
    model_type="pegasus",
    model="PegasusForConditionalGeneration",
    base="PegasusModel",
    norm="pre",
    apart=False,
    vocabulary=50265,
)
M2M100: Final = replace(
    PEGASUS,
    model_type="m2m_100",
    model="M2M100ForConditionalGeneration",
    base="M2M100Model",
    positions="tensor2tensor",
    scaled=True,
    activation="relu",
    vocabulary=128112,
)
SHAPES: Final = (MARIAN, BART, PEGASUS, M2M100)


def order(width: int) -> Tensor:
    """Where each number of our residual stream is in theirs: sine 0, cosine 0, sine 1, … of [sines | cosines]."""
    return torch.arange(width).view(2, -1).T.flatten()


def table(shape: Shape, config: TransformerConfig) -> Table:
    """The weights of a Transformer in the names of a family."""
    places = order(config.width) if shape.reordered else None

    def form(inner: Form, axis: int | None) -> Form:
        return inner if places is None or axis is None else Reordered(inner, places, axis)

    def part(ours: str, theirs: str, one: Part) -> list[Weight]:
        names = [f"{theirs}.{name}" for name in one.theirs]
        inner: Form = Joined((config.width,) * len(names)) if len(names) > 1 else SAME
        return [
            Weight(f"{ours}.{one.ours}.{kind}", tuple(f"{name}.{kind}" for name in names), form(inner, axis))
            for kind, axis in (("weight", one.weight), ("bias", one.bias))
        ]

    weights: list[Weight] = []
    for side, layers, count in (
        ("encoder", ENCODER_LAYER, config.encoder_layers),
        ("decoder", DECODER_LAYER, config.decoder_layers),
    ):
        for i in range(count):
            for one in layers:
                weights += part(f"{side}.layers.{i}", f"model.{side}.layers.{i}", one)
        if config.positions == "learned":
            place = f"model.{side}.embed_positions.weight"
            weights.append(Weight(f"{side}.embedding.positions.table", (place,), Below(FIRST_ROW)))
        if config.embedding_norm:
            weights += part(side, f"model.{side}", EMBEDDING_NORM)
        if config.norm == "pre":
            weights += part(side, f"model.{side}", LAST_NORM)
    tables, tied = _tables(config)
    weights += [Weight(ours, (theirs,), form(SAME, 1)) for ours, theirs in tables]
    if config.output_bias:
        weights.append(Weight("output.bias", (BIAS,), Row()))
    written = tuple(f"model.{side}.embed_positions.weight" for side in SIDES) if shape is PEGASUS else ()
    return Table(weights, tied, _constants(shape, config), written, (r"(model\.)?(encoder|decoder)\.version",))


def _tables(config: TransformerConfig) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """The tables of token vectors, and which of theirs are one."""
    source, target = "encoder.embedding.tokens.weight", "decoder.embedding.tokens.weight"
    if config.shared == "all":
        return [(source, SHARED)], [(SHARED, SOURCE, TARGET, HEAD)]
    if config.shared == "target":
        return [(source, SOURCE), (target, TARGET)], [(TARGET, HEAD)]
    return [(source, SOURCE), (target, TARGET), ("output.weight", HEAD)], []


def _constants(shape: Shape, config: TransformerConfig) -> dict[str, Any]:
    """Tables of positions that some directories hold although they follow from the sizes."""

    def halves() -> Tensor:
        return sinusoids(config.max_length, config.width).index_select(1, order(config.width).argsort())

    def from_two() -> Tensor:
        # with the rows of the positions that nothing has; the padding's is zero
        rows = Tensor2TensorPositions(config.max_length + 2, config.width).table[: config.max_length]
        angle = torch.cat((torch.zeros(2, config.width), rows))
        angle[0, config.width // 2 :] = 1.0
        return angle

    found: dict[str, Any] = {}
    for side in SIDES:
        if shape.positions == "sinusoidal":
            found[f"model.{side}.embed_positions.weight"] = halves
        if shape.positions == "tensor2tensor":
            found[f"model.{side}.embed_positions.weights"] = from_two
    if not config.output_bias:
        found[BIAS] = lambda: torch.zeros(1, config.target_vocabulary)
    return found


def opener(shape: Shape) -> Family:
    """The family of a shape."""

    def opened(given: Given) -> Opened:
        config = _config(shape, given)
        vocabularies = config.source_vocabulary, config.target_vocabulary
        content = translation_content(given.generation, config.max_length, *vocabularies)
        if shape is M2M100 and content["frame"]["pad"] != Tensor2TensorPositions.FIRST - 1:
            raise CheckpointError(
                f"{given.file}: pad_token_id is {content['frame']['pad']}; supported is 1: positions begin behind it"
            )
        build = partial(build_transformer, config)
        return Opened("translation", build, table(shape, config), content)

    heads = (HEAD.split(".")[0], BIAS)
    rename = with_prefix("model.", heads)
    return Family(shape.model_type, (shape.model, shape.base), shape.fields(), rename, opened)


def _config(shape: Shape, given: Given) -> TransformerConfig:
    values, file = given.values, given.file
    tied = values["tie_word_embeddings"]
    shared = "all" if values.get("share_encoder_decoder_embeddings", True) else "target" if tied else "none"
    if shared == "all" and not tied:
        raise CheckpointError(f"{file}: tie_word_embeddings is False; supported is True where the languages share one")
    vocabulary = values["vocab_size"]
    target = values.get("decoder_vocab_size") or vocabulary
    if shared == "all" and target != vocabulary:
        raise CheckpointError(f"{file}: decoder_vocab_size is {target}, vocab_size {vocabulary}, though they share one")
    width, heads = values["d_model"], equal(values, ("encoder_attention_heads", "decoder_attention_heads"), file)
    stored = given.stored
    return TransformerConfig(
        vocabulary,
        target,
        encoder_layers=values["encoder_layers"],
        decoder_layers=values["decoder_layers"],
        width=width,
        feedforward=equal(values, ("encoder_ffn_dim", "decoder_ffn_dim"), file),
        heads=heads,
        dropout=values["dropout"],
        attention_dropout=values["attention_dropout"],
        norm=shape.norm,  # type: ignore[arg-type]
        positions=shape.positions,  # type: ignore[arg-type]
        shared=shared,  # type: ignore[arg-type]
        activation=activation(values, "activation_function", file),
        embedding_scale=values["scale_embedding"],
        embedding_norm=shape.embedding_norm,
        # a bias of zeros, as BART has it, is none
        output_bias=BIAS in stored.names and bool(stored.read(BIAS).any()),
        max_length=values["max_position_embeddings"],
    )


FAMILIES: Final = tuple(opener(shape) for shape in SHAPES)


def write(config: TransformerConfig, content: Mapping[str, Any]) -> Written:
    """A Transformer as a model of the family that computes the same.

    Args:
        config: of the model.
        content: "decoding" and "frame", as `translation_content` makes them; fields of "decoding" may be missing.

    Raises:
        UnsupportedError: no family does; the message says what each lacks.
    """
    pad = content["frame"]["pad"]
    problems = {shape.model_type: shape.problem(config, pad) for shape in SHAPES}
    shape = next((shape for shape in SHAPES if problems[shape.model_type] is None), None)
    if shape is None:
        raise UnsupportedError(none_fits(problems))
    frame = content["frame"]
    tokens = {
        "pad_token_id": frame["pad"],
        "bos_token_id": frame.get("begin", frame["start"]),
        "eos_token_id": frame["end"],
        "decoder_start_token_id": frame["start"],
    }
    sizes: dict[str, Any] = {
        "architectures": [shape.model],
        "model_type": shape.model_type,
        "is_encoder_decoder": True,
        "vocab_size": config.source_vocabulary,
        "d_model": config.width,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.feedforward,
        "decoder_ffn_dim": config.feedforward,
        "activation_function": THEIR_ACTIVATIONS[config.activation],
        "scale_embedding": config.embedding_scale,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": 0.0,
        "max_position_embeddings": config.max_length,
        "tie_word_embeddings": config.shared != "none",
        "torch_dtype": "float32",
        "forced_eos_token_id": None,
        **tokens,
    }
    if shape.apart:
        sizes |= {
            "decoder_vocab_size": config.target_vocabulary,
            "share_encoder_decoder_embeddings": config.shared == "all",
        }
    return Written(sizes, table(shape, config), tokens | _generation(content["decoding"], config, frame))


def _generation(decoding: Mapping[str, Any], config: TransformerConfig, frame: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of generation_config.json beside the special tokens: the inverse of `translation_content`."""
    alphas = {"average": decoding.get("alpha", 1.0), "none": 0.0}
    early = {"behind": False, "full": True, "certain": "never"}
    longest = decoding.get("max_length")
    fields: dict[str, Any] = {
        "num_beams": decoding.get("beam", 1),
        # their penalty has no form like that of GNMT
        "length_penalty": alphas.get(decoding.get("penalty", "average")),
        "early_stopping": early[decoding.get("stopping", "behind")],
        "max_length": config.max_length if longest is None else min(longest + 1, config.max_length),
        "min_length": decoding["min_length"] + 1 if decoding.get("min_length") else None,
        "no_repeat_ngram_size": decoding.get("no_repeat_ngram") or None,
        "bad_words_ids": decoding.get("forbidden") or None,
        "forced_bos_token_id": decoding.get("forced_first"),
        "forced_eos_token_id": decoding.get("forced_last"),
        "renormalize_logits": decoding.get("renormalize") or None,
        "do_sample": False,
    }
    return {name: value for name, value in fields.items() if value is not None}
