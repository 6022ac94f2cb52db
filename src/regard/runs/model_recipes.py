"""[model]: a section for each kind of model there is."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from regard.errors import ArgumentError
from regard.layers.feedforward import Activation
from regard.runs.sections import Positive, Section, Share


class ModelSection(Section):
    """What the sections of all models have in common."""

    max_length: Positive | None = None
    """Most positions of a sentence (1024)."""

    def settings(self, joint: bool) -> dict[str, Any]:
        """What is put in or replaced in the preset, for one joint tokenizer or one each.

        Raises:
            ArgumentError: a setting needs the other.
        """
        return self.model_dump(exclude={"name", "preset"}, exclude_none=True)


class TransformerRecipe(ModelSection):
    """[model] with name = "transformer": a preset, and what differs from it (Vaswani et al. 2017)."""

    name: Literal["transformer"] = "transformer"
    """The model; this one if not given."""
    preset: Literal["tiny", "small", "base", "big"] = "tiny"
    """Sizes: tiny (4+4 layers, 128), small (6+6, 256), base and big (the paper's, 6+6, 512 and 1024)."""
    encoder_layers: Positive | None = None
    """Encoder layers; this and the following default to the preset's."""
    decoder_layers: Positive | None = None
    """Decoder layers."""
    width: Positive | None = None
    """Width of the residual stream."""
    feedforward: Positive | None = None
    """Width inside the feed-forward networks."""
    heads: Positive | None = None
    """Attention heads."""
    key_heads: Positive | None = None
    """Key/value heads, which divide the heads; as many as heads if not given."""
    dropout: Share | None = None
    """On embeddings and on each sub-layer's output."""
    attention_dropout: Share | None = None
    """On attention weights."""
    norm: Literal["post", "pre"] | None = None
    """LayerNorm after each residual sum, as in the paper, or before each sub-layer."""
    positions: Literal["sinusoidal", "learned", "tensor2tensor"] | None = None
    """Positional encoding; tensor2tensor is the sinusoids of M2M-100."""
    shared: Literal["all", "target", "none"] | None = None
    """Shared embedding tables; by default "all" with a joint tokenizer, "target" with separate ones."""
    activation: Activation | None = None
    """Inside the feed-forward networks (relu)."""
    embedding_scale: bool | None = None
    """Whether token vectors are multiplied by the root of the width (true, as in the paper)."""
    embedding_norm: bool | None = None
    """LayerNorm on the sum of token and position vectors, as in BART (false)."""
    output_bias: bool | None = None
    """Whether logits have a bias, as in Marian (false)."""

    def settings(self, joint: bool) -> dict[str, Any]:
        """See `ModelSection.settings`."""
        if self.shared == "all" and not joint:
            raise ArgumentError('shared = "all" needs a joint tokenizer')
        return {"shared": "all" if joint else "target"} | super().settings(joint)


class RNNSeq2SeqRecipe(ModelSection):
    """[model] with name = "rnn_seq2seq": one context vector, no attention (Sutskever et al. 2014, Cho et al. 2014)."""

    name: Literal["rnn_seq2seq"]
    """The model."""
    preset: Literal["tiny", "small", "sutskever", "cho"] = "tiny"
    """Sizes: tiny (width 256), small (512), and the papers'."""
    cell: Literal["lstm", "gru", "rnn"] | None = None
    """Recurrent cell; this and the following default to the preset's."""
    layers: Positive | None = None
    """Layers of the encoder, and of the decoder."""
    embedding: Positive | None = None
    """Width of the embeddings."""
    width: Positive | None = None
    """Width of the layers, and of the context vector."""
    bidirectional: bool | None = None
    """Whether the encoder reads in both directions."""
    reverse_source: bool | None = None
    """Whether the encoder reads the source from its end."""
    context: Literal["first", "every"] | None = None
    """Where the context vector goes: the decoder's first state (Sutskever), or every step (Cho)."""
    maxout: Annotated[int, Field(ge=0)] | None = None
    """Width of a maxout layer before the output; 0 is none."""
    dropout: Share | None = None
    """On embeddings, between layers and before the output."""


class BahdanauRecipe(ModelSection):
    """[model] with name = "bahdanau": a recurrent decoder that aligns and translates (Bahdanau et al. 2015)."""

    name: Literal["bahdanau"]
    """The model."""
    preset: Literal["tiny", "small", "paper"] = "tiny"
    """Sizes: tiny (width 256), small (512), and the paper's (1000)."""
    embedding: Positive | None = None
    """Width of the embeddings; this and the following default to the preset's."""
    width: Positive | None = None
    """Width of the decoder, and of each direction of the encoder."""
    attention_width: Positive | None = None
    """Width of the alignment model's hidden layer."""
    maxout: Positive | None = None
    """Width of the maxout layer before the output."""
    dropout: Share | None = None
    """On embeddings and before the output."""


class LuongRecipe(ModelSection):
    """[model] with name = "luong": stacked LSTMs with global or local attention (Luong et al. 2015)."""

    name: Literal["luong"]
    """The model."""
    preset: Literal["tiny", "small", "paper"] = "tiny"
    """Sizes: tiny (width 256), small (512), and the paper's (4 layers, 1000)."""
    layers: Positive | None = None
    """Layers of the encoder, and of the decoder; this and the following default to the preset's."""
    embedding: Positive | None = None
    """Width of the embeddings."""
    width: Positive | None = None
    """Width of the layers."""
    score: Literal["dot", "general", "concat"] | None = None
    """Similarity of decoder and encoder states."""
    attention: Literal["global", "local-m", "local-p"] | None = None
    """Which states are seen: all, a window around the same position, or around a predicted one."""
    window: Positive | None = None
    """Half-width D of the window of local attention."""
    input_feeding: bool | None = None
    """Whether the attentional state is part of the next step's input."""
    reverse_source: bool | None = None
    """Whether the encoder reads the source from its end."""
    dropout: Share | None = None
    """On embeddings, between layers and before the output."""


MODEL_RECIPES: dict[str, type[ModelSection]] = {
    "transformer": TransformerRecipe,
    "rnn_seq2seq": RNNSeq2SeqRecipe,
    "bahdanau": BahdanauRecipe,
    "luong": LuongRecipe,
}


def model_name(section: Any) -> str:
    """The kind of model that a section [model] asks for, given as a table or checked already."""
    if isinstance(section, Section):
        section = section.model_dump()
    return str(section.get("name", "transformer")) if isinstance(section, dict) else "transformer"


ModelRecipe = Annotated[
    Annotated[TransformerRecipe, Tag("transformer")]
    | Annotated[RNNSeq2SeqRecipe, Tag("rnn_seq2seq")]
    | Annotated[BahdanauRecipe, Tag("bahdanau")]
    | Annotated[LuongRecipe, Tag("luong")],
    Discriminator(model_name),
]
"""Whichever of them `name` says."""
