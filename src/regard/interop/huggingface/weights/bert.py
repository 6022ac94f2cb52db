"""BERT, with each of its heads, as the BERT of this package."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from torch import nn

from regard.errors import CheckpointError
from regard.interop.huggingface.weights.family import Family, Given, Opened, Written, with_prefix
from regard.interop.huggingface.weights.fields import THEIR_ACTIVATIONS, Fields, activation
from regard.interop.huggingface.weights.stored import Stored
from regard.interop.huggingface.weights.table import SAME, Joined, Table, Weight
from regard.models.bert import (
    BERTConfig,
    build_bert,
    build_classifier,
    build_masked_language_model,
    build_tagger,
)

TOKENS = "bert.embeddings.word_embeddings.weight"
DECODER, BIAS = "cls.predictions.decoder", "cls.predictions.bias"
FOLLOWING, POOLER = "cls.seq_relationship", "bert.pooler.dense"

EMBEDDING: Final = {
    "embedding.tokens.weight": TOKENS,
    "embedding.positions.table": "bert.embeddings.position_embeddings.weight",
    "embedding.types.weight": "bert.embeddings.token_type_embeddings.weight",
    "embedding.norm.weight": "bert.embeddings.LayerNorm.weight",
    "embedding.norm.bias": "bert.embeddings.LayerNorm.bias",
}
LAYER: Final = {
    "attention.input": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": ("attention.output.dense",),
    "attention_residual.norm": ("attention.output.LayerNorm",),
    "feedforward.inner": ("intermediate.dense",),
    "feedforward.outer": ("output.dense",),
    "feedforward_residual.norm": ("output.LayerNorm",),
}
"""Modules of a layer, ours and theirs; several of theirs are joined. Each has a weight and a bias."""

MASKED: Final = {
    "transform": "cls.predictions.transform.dense",
    "transform_norm": "cls.predictions.transform.LayerNorm",
}
NEXT: Final = {"pooler": POOLER, "next_sentence": FOLLOWING}
HEADS: Final[Mapping[str, Mapping[str, str]]] = {
    "masked_language_modelling": MASKED,
    "classification": {"pooler": POOLER, "output": "classifier"},
    "tagging": {"output": "classifier"},
    "encoder": {},
}
"""Modules of the heads, ours and theirs, by task."""

PRETRAINING: Final = "BertForPreTraining"
TASKS: Final = {
    "BertForMaskedLM": "masked_language_modelling",
    PRETRAINING: "masked_language_modelling",
    "BertForSequenceClassification": "classification",
    "BertForTokenClassification": "tagging",
    "BertModel": "encoder",
}
"""What the classes are for."""

FIELDS: Final = Fields(
    read={
        "vocab_size": (int, 30522),
        "hidden_size": (int, 768),
        "num_hidden_layers": (int, 12),
        "num_attention_heads": (int, 12),
        "intermediate_size": (int, 3072),
        "hidden_act": (str, "gelu"),
        "hidden_dropout_prob": (float, 0.1),
        "attention_probs_dropout_prob": (float, 0.1),
        "max_position_embeddings": (int, 512),
        "type_vocab_size": (int, 2),
        "layer_norm_eps": (float, 1e-12),
        "id2label": (dict, None),
        "problem_type": (str, None),
    },
    must={"tie_word_embeddings": (True,)},
)


def table(config: BERTConfig, task: str, following: bool = False) -> Table:
    """The weights of a BERT in their names.

    Args:
        config: of the encoder.
        task: what its head is for, "encoder" for none.
        following: whether a masked-language model also says whether the second text follows the first.
    """
    heads = {**HEADS[task], **(NEXT if following else {})}
    where = "" if task == "encoder" else "encoder."
    weights = [Weight(where + ours, (theirs,)) for ours, theirs in EMBEDDING.items()]
    for i in range(config.layers):
        for ours, parts in LAYER.items():
            for kind in ("weight", "bias"):
                names = tuple(f"bert.encoder.layer.{i}.{part}.{kind}" for part in parts)
                form = Joined((config.width,) * 3) if len(names) > 1 else SAME
                weights.append(Weight(f"{where}layers.{i}.{ours}.{kind}", names, form))
    weights += [
        Weight(f"{ours}.{kind}", (f"{theirs}.{kind}",)) for ours, theirs in heads.items() for kind in ("weight", "bias")
    ]
    tied: list[tuple[str, ...]] = []
    if task == "masked_language_modelling":
        weights.append(Weight("output.bias", (BIAS,)))
        tied = [(TOKENS, f"{DECODER}.weight"), (BIAS, f"{DECODER}.bias")]
    ignored = [r"bert\.embeddings\.(position|token_type)_ids"]
    # a pooler that nothing reads: older directories have it whatever the head
    ignored += [] if POOLER in heads.values() else [r"bert\.pooler\.dense\.(weight|bias)"]
    return Table(weights, tied, ignored=tuple(ignored))


def open_bert(given: Given) -> Opened:
    """The model of a directory, with the head that its class has."""
    config, names = _config(given), given.stored.names
    task = TASKS[given.architecture]
    if task == "masked_language_modelling":
        # the published models are of the class without the second task, and have its weights
        following = f"{FOLLOWING}.weight" in names or given.architecture == PRETRAINING
        masked = partial(build_masked_language_model, config, following)
        return Opened(task, masked, table(config, task, following), {"mask": None, "next_sentence": following})
    if task == "encoder":
        return Opened(task, partial(build_bert, config), table(config, task))
    labels = _labels(given)
    build: Callable[[BERTConfig, int], nn.Module] = build_classifier if task == "classification" else build_tagger
    return Opened(task, partial(build, config, len(labels)), table(config, task), {"labels": labels})


def _config(given: Given) -> BERTConfig:
    values = given.values
    return BERTConfig(
        values["vocab_size"],
        layers=values["num_hidden_layers"],
        width=values["hidden_size"],
        feedforward=values["intermediate_size"],
        heads=values["num_attention_heads"],
        types=values["type_vocab_size"],
        dropout=values["hidden_dropout_prob"],
        attention_dropout=values["attention_probs_dropout_prob"],
        activation=activation(values, "hidden_act", given.file),
        norm_epsilon=values["layer_norm_eps"],
        max_length=values["max_position_embeddings"],
    )


def _labels(given: Given) -> list[str]:
    """The names of the labels, in the order of the output; as transformers names them where they have none."""
    kind = given.values["problem_type"]
    if kind not in (None, "single_label_classification"):
        raise CheckpointError(f"{given.file}: problem_type is {kind!r}; supported is 'single_label_classification'")
    count = given.stored.shape("classifier.weight")[0] if "classifier.weight" in given.stored.names else 2
    if count < 2:
        what = {
            "classification": "it predicts a number, which is not supported",
            "tagging": "there is nothing to choose from",
        }
        raise CheckpointError(f"{given.file}: a model of {count} label: {what[TASKS[given.architecture]]}")
    names = given.values["id2label"]
    if names is None:
        return [f"LABEL_{i}" for i in range(count)]
    wanted = {str(i) for i in range(count)}
    if names.keys() != wanted or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{given.file}: id2label is {names!r:.80}; expected names of the labels 0 to {count - 1}")
    return [names[str(i)] for i in range(count)]


def rename(stored: Stored) -> None:
    """Names without `bert.`, and those of LayerNorm that TensorFlow had."""
    with_prefix("bert.", ("cls.", "classifier."))(stored)
    stored.rename(
        lambda name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    )


FAMILY: Final = Family("bert", tuple(TASKS), FIELDS, rename, open_bert)


def write(config: BERTConfig, task: str, content: Mapping[str, Any]) -> Written:
    """A BERT, bare or with a head, in their names.

    Args:
        config: of the encoder.
        task: what its head is for, "encoder" for none.
        content: "next_sentence" of a masked-language model; "labels" of a classifier or tagger.
    """
    following = bool(content.get("next_sentence"))
    names = [name for name, what in TASKS.items() if what == task and (name == PRETRAINING) == following]
    fields: dict[str, Any] = {
        "architectures": names,
        "model_type": "bert",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feedforward,
        "hidden_act": THEIR_ACTIVATIONS[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.max_length,
        "type_vocab_size": config.types,
        "layer_norm_eps": config.norm_epsilon,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    if labels := content.get("labels"):
        fields["id2label"] = {str(i): name for i, name in enumerate(labels)}
        fields["label2id"] = {name: i for i, name in enumerate(labels)}
    if task == "classification":
        fields["problem_type"] = "single_label_classification"
    return Written(fields, table(config, task, following))
