"""What is not understood of a Hugging Face directory is refused by name: fields, weights, pickles, damage."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from regard.errors import CheckpointError
from regard.interop.huggingface.weights import read_weights

transformers = pytest.importorskip("transformers")

from oracles.huggingface_weights import ALL, make, saved  # noqa: E402 - it needs transformers

NAMES = ("marian", "bart", "pegasus", "m2m_100", "gpt2", "llama", "qwen2", "masked", "classifier", "tagger", "bare")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: saved(make(ALL[name]), tmp_path_factory.mktemp("given") / name) for name in NAMES}


@pytest.fixture
def copied(directories: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        for file in directories[name].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        return tmp_path

    return copy


def configure(directory: Path, file: str = "config.json", **fields: Any) -> None:
    """Put fields into a JSON file; `...` takes one out."""
    path = directory / file
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def reweigh(directory: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the stored weights."""
    path = directory / "model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())
    change(weights)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


def refused(directory: Path, *parts: str) -> None:
    with pytest.raises(CheckpointError) as error:
        read_weights(directory)
    for part in (str(directory), *parts):
        assert part in str(error.value)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FIELDS = [
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True; supported is False"),
    ("gpt2", {"attention_sinks": 4}, "the field attention_sinks = 4 isn't known"),
    ("gpt2", {"activation_function": "tanh"}, "activation_function is 'tanh'; supported is relu, gelu, "),
    ("gpt2", {"n_layer": "2"}, "n_layer is '2'; expected a value of type int"),
    ("gpt2", {"n_head": 5}, "heads = 5 doesn't divide width = 24"),
    ("gpt2", {"model_type": "gptj"}, "model_type is 'gptj'; weights are read of gpt2, llama, qwen2, bert, marian"),
    ("gpt2", {"architectures": ["GPT2DoubleHeadsModel"]}, "the model is a GPT2DoubleHeadsModel; weights are read of"),
    ("gpt2", {"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_parameters is {"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factors": [2.0]}}, "not known of the type 'linear' is ['fa"),
    ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor is None; expected a number"),
    ("llama", {"rope_parameters": {"rope_type": "linear", "factor": -1.0}}, "rotary_factor is -1.0: expected a number"),
    ("llama", {"rope_parameters": LLAMA3 | {"high_freq_factor": 1.0}}, "rotary_high = 1.0 is not above rotary_low"),
    ("llama", {"rope_parameters": LLAMA3, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling and rope"),
    ("llama", {"rope_parameters": ..., "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling is {"),
    ("llama", {"attention_bias": True}, "attention_bias is True, mlp_bias False"),
    ("llama", {"sliding_window": 16}, "sliding_window is 16; supported is None"),
    ("qwen2", {"use_sliding_window": True}, "use_sliding_window is True; supported is False"),
    ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is ['full_attention', 'slid"),
    ("masked", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ("masked", {"is_decoder": True}, "is_decoder is True; supported is False or None"),
    ("masked", {"is_decoder": 0}, "is_decoder is 0"),
    ("classifier", {"problem_type": "multi_label_classification"}, "problem_type is 'multi_label_classification'"),
    ("classifier", {"id2label": {"0": "a", "2": "b", "1": 3}}, "id2label is {'0': 'a'"),
    ("marian", {"normalize_embedding": True}, "normalize_embedding is True; supported is None or False"),
    ("marian", {"normalize_before": True}, "normalize_before is True"),
    ("marian", {"encoder_attention_heads": 2}, "encoder_attention_heads = 2, decoder_attention_heads = 3"),
    ("marian", {"decoder_ffn_dim": 30}, "encoder_ffn_dim = 32, decoder_ffn_dim = 30: supported is the same"),
    ("marian", {"tie_word_embeddings": False}, "tie_word_embeddings is False; supported is True where"),
    ("marian", {"decoder_vocab_size": 33}, "decoder_vocab_size is 33, vocab_size 41"),
    ("bart", {"layer_norm_type": "rms"}, "the field layer_norm_type = 'rms' isn't known"),
    ("bart", {"layer_norm_type": "rms"}, "take it out of config.json if it doesn't"),
]


@pytest.mark.parametrize(("name", "fields", "message"), FIELDS)
def test_fields_that_change_what_is_computed(
    name: str, fields: dict[str, Any], message: str, copied: Callable[[str], Path]
) -> None:
    directory = copied(name)
    configure(directory, **fields)
    refused(directory, "config.json", message)


GENERATION = [
    ("marian", {"num_beam_groups": 2}, "num_beam_groups is 2; supported is None or 1"),
    ("bart", {"repetition_penalty": 1.3}, "repetition_penalty is 1.3"),
    ("bart", {"do_sample": True}, "do_sample is True"),
    ("bart", {"bad_words_ids": [3]}, "bad_words_ids is [3]"),
    ("bart", {"bad_words_ids": 5}, "bad_words_ids is 5; expected lists of token ids"),
    ("bart", {"bad_words_ids": [[3], [4, 41]]}, "bad_words_ids is [[3], [4, 41]]; the ids of the model are 0 to 40"),
    ("bart", {"decoder_start_token_id": 99999}, "decoder_start_token_id is 99999; the ids of the model are 0 to 40"),
    ("bart", {"forced_bos_token_id": 41}, "forced_bos_token_id is 41; the ids of the model"),
    ("bart", {"forced_eos_token_id": -1}, "forced_eos_token_id is -1; the ids of the model"),
    ("bart", {"eos_token_id": 99999}, "eos_token_id is 99999; the ids of the model"),
    ("marian", {"pad_token_id": 41}, "pad_token_id is 41; the ids of the model"),
    ("bart", {"num_beams": -3}, "num_beams is -3; expected a whole number, 1 or more"),
    ("bart", {"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1; expected a whole number, 0 or more"),
    ("bart", {"min_length": -2}, "min_length is -2; expected"),
    ("bart", {"max_length": 0}, "max_length is 0; expected"),
    ("bart", {"renormalize_logits": 1}, "renormalize_logits is 1"),
    ("bart", {"renormalize_logits": True, "min_length": 5}, "renormalize_logits is True, min_length 5; supported is"),
    ("bart", {"early_stopping": 3}, "early_stopping is 3"),
    ("bart", {"eos_token_id": [2, 3]}, "eos_token_id is [2, 3]; supported is one"),
    ("bart", {"eos_token_id": "2"}, "eos_token_id is '2'; expected whole numbers"),
    ("m2m_100", {"pad_token_id": 0}, "pad_token_id is 0; supported is 1"),
]


@pytest.mark.parametrize(("name", "fields", "message"), GENERATION)
def test_ways_of_generating_that_are_not_taken_over(
    name: str, fields: dict[str, Any], message: str, copied: Callable[[str], Path]
) -> None:
    directory = copied(name)
    configure(directory, "generation_config.json", **fields)
    refused(directory, message)


def test_sampling_defaults_of_a_language_model_are_not_its_matter(copied: Callable[[str], Path]) -> None:
    directory = copied("llama")
    configure(directory, "generation_config.json", do_sample=True, top_p=0.8, repetition_penalty=1.1)
    assert read_weights(directory).content["generation"] == {"begin": 0, "end": [2]}


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_without_a_place(name: str, copied: Callable[[str], Path]) -> None:
    directory = copied(name)
    reweigh(directory, lambda weights: weights.update({"model.adapter.weight": torch.zeros(2)}))
    refused(directory, "model.safetensors: the weight ", "model.adapter.weight has no place in the model")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_weight(name: str, copied: Callable[[str], Path]) -> None:
    directory = copied(name)
    lost: list[str] = []

    def lose(weights: dict[str, Tensor]) -> None:
        lost.append(sorted(name for name in weights if "layer" in name or ".h." in name)[3])
        del weights[lost[0]]

    reweigh(directory, lose)
    refused(directory, "there is no weight", lost[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_another_shape(name: str, copied: Callable[[str], Path]) -> None:
    directory = copied(name)
    found: list[str] = []

    def widen(weights: dict[str, Tensor]) -> None:
        found.append(sorted(name for name in weights if "layer" in name or ".h." in name)[0])
        weights[found[0]] = torch.zeros(*weights[found[0]].shape, 2)

    reweigh(directory, widen)
    refused(directory, found[0], " is (", "config.json it should be (")


def test_more_layers_than_the_configuration_says(copied: Callable[[str], Path]) -> None:
    directory = copied("gpt2")
    configure(directory, n_layer=1)
    refused(directory, "the weight transformer.h.1.", "(and 9 more) has no place in the model")


SIZES = [
    ("gpt2", {"n_layer": 10**7}, "config.json: n_layer is 10000000, and ", "has 28 weights"),
    ("marian", {"encoder_layers": 10**7}, "config.json: encoder_layers is 10000000", ""),
    ("llama", {"vocab_size": 10**12}, "model.embed_tokens.weight is (41, 24)", "it should be (1000000000000, 24)"),
    ("bart", {"max_position_embeddings": 10**12}, "embed_positions.weight is (50, 24)", "(1000000000002, 24)"),
    ("masked", {"intermediate_size": 10**12}, "layer.0.intermediate.dense.weight is (36, 24)", "(1000000000000, 24)"),
    ("marian", {"max_position_embeddings": 10**12}, "positions.table is (1000000000000, 24); supported are 268", ""),
    ("m2m_100", {"max_position_embeddings": 10**12}, "positions.table is (1000000000000, 24); supported are 268", ""),
]


@pytest.mark.parametrize(("name", "fields", "first", "second"), SIZES)
def test_sizes_are_compared_before_anything_of_their_size_is_made(
    name: str, fields: dict[str, Any], first: str, second: str, copied: Callable[[str], Path]
) -> None:
    directory = copied(name)
    configure(directory, **fields)
    refused(directory, first, second)


def test_one_label(copied: Callable[[str], Path]) -> None:
    def shorten(weights: dict[str, Tensor]) -> None:
        weights |= {name: weights[name][:1].clone() for name in ("classifier.weight", "classifier.bias")}

    for name, message in (("classifier", "it predicts a number"), ("tagger", "there is nothing to choose from")):
        directory = copied(name)
        reweigh(directory, shorten)
        refused(directory, f"a model of 1 label: {message}")


def test_tied_weights_that_differ(copied: Callable[[str], Path]) -> None:
    directory = copied("bart")
    reweigh(directory, lambda weights: weights.update({"lm_head.weight": weights["model.shared.weight"] + 1}))
    refused(directory, "lm_head.weight and model.shared.weight differ; by config.json they are one weight")


@pytest.mark.parametrize("name", ["marian", "bart", "gpt2", "masked"])
def test_tied_weights_may_be_stored_under_any_of_their_names(name: str, copied: Callable[[str], Path]) -> None:
    directory = copied(name)
    before = read_weights(directory).model
    pairs = {
        "marian": ("model.shared.weight", "model.decoder.embed_tokens.weight"),
        "bart": ("model.shared.weight", "lm_head.weight"),
        "gpt2": ("transformer.wte.weight", "lm_head.weight"),
        "masked": ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    }
    old, new = pairs[name]
    reweigh(directory, lambda weights: weights.update({new: weights.pop(old)}))
    after = read_weights(directory).model
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


@pytest.mark.parametrize("name", ["gpt2", "llama", "masked", "classifier", "bart"])
def test_names_without_the_part_that_all_have(name: str, copied: Callable[[str], Path]) -> None:
    """As the published GPT-2 has them; and LayerNorm's as the published BERT has them."""
    directory = copied(name)
    before = read_weights(directory).model
    prefix = {"gpt2": "transformer.", "masked": "bert.", "classifier": "bert."}.get(name, "model.")

    def shorten(weights: dict[str, Tensor]) -> None:
        for long in list(weights):
            short = long.removeprefix(prefix)
            if prefix == "bert.":
                short = short.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            weights[short] = weights.pop(long)

    reweigh(directory, shorten)
    after = read_weights(directory).model
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_numbers_that_follow_from_the_sizes_may_be_stored(copied: Callable[[str], Path]) -> None:
    """Masks, angles, and positions, as old directories have them."""
    directory = copied("gpt2")
    more = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 48, 48, dtype=torch.uint8) for i in range(2)}
    more |= {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    reweigh(directory, lambda weights: weights.update(more))
    read_weights(directory)
    directory = copied("marian")
    model = make(ALL["marian"])
    table = model.model.encoder.embed_positions.weight.data
    reweigh(directory, lambda weights: weights.update({"model.encoder.embed_positions.weight": table.clone()}))
    read_weights(directory)
    reweigh(directory, lambda weights: weights.update({"model.encoder.embed_positions.weight": table.flip(0)}))
    refused(directory, "model.encoder.embed_positions.weight is not what config.json says that it is")


def test_the_positions_that_older_m2m_directories_have(copied: Callable[[str], Path]) -> None:
    directory = copied("m2m_100")
    table = make(ALL["m2m_100"]).model.encoder.embed_positions.weights
    reweigh(directory, lambda weights: weights.update({"model.encoder.embed_positions.weights": table.clone()}))
    read_weights(directory)


def test_a_bert_without_the_second_task_may_have_its_weights(copied: Callable[[str], Path]) -> None:
    """The published BERT is of the class for masked tokens, and has what `BertForPreTraining` has."""
    directory = copied("masked")
    more = {"bert.pooler.dense": (24, 24), "cls.seq_relationship": (2, 24)}

    def add(weights: dict[str, Tensor]) -> None:
        for name, (rows, columns) in more.items():
            weights |= {f"{name}.weight": torch.randn(rows, columns), f"{name}.bias": torch.randn(rows)}

    reweigh(directory, add)
    found = read_weights(directory)
    assert found.content["next_sentence"] is True
    reweigh(directory, lambda weights: [weights.pop(f"cls.seq_relationship.{kind}") for kind in ("weight", "bias")])
    assert read_weights(directory).content["next_sentence"] is False  # the pooler alone is read by nothing


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


@pytest.mark.parametrize("file", ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"])
def test_pickled_weights_are_refused_with_the_command_that_converts_them(
    file: str, copied: Callable[[str], Path]
) -> None:
    directory = copied("marian")
    (directory / "model.safetensors").unlink()
    torch.save({"model.shared.weight": Harmful()}, directory / file)
    command = f"MarianMTModel.from_pretrained({str(directory)!r}); model.save_pretrained({str(directory)!r}, safe"
    refused(directory, file, "which is not read, as such a file may run code", command)


def test_no_weights_and_no_directory(copied: Callable[[str], Path]) -> None:
    directory = copied("gpt2")
    (directory / "model.safetensors").unlink()
    refused(directory, "there are no weights, expected model.safetensors")
    refused(directory / "missing", "no such model directory")


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_truncated_weights(size: int, copied: Callable[[str], Path]) -> None:
    directory = copied("llama")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(directory, "model.safetensors: damaged or not safetensors")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["{", "[]", "3", "\xff"])
def test_damaged_json(file: str, content: str, copied: Callable[[str], Path]) -> None:
    directory = copied("llama")
    (directory / file).write_bytes(content.encode("latin-1"))
    refused(directory, file)


def test_damaged_shards(copied: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("shards")
    make(ALL["gpt2"]).save_pretrained(directory, max_shard_size=9000)
    index = directory / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    read_weights(directory)
    names = content["weight_map"]
    for changed, message in (
        ({**names, "transformer.wte.weight": "../other.safetensors"}, "which is no safetensors file beside it"),
        ({**names, "transformer.wte.weight": "gone.safetensors"}, "gone.safetensors, which it names, is missing"),
        ({**names, "more": names["transformer.wte.weight"]}, "more is in the index or in a file of it, but not in"),
        ({name: file for name, file in names.items() if "wpe" not in name}, "transformer.wpe.weight is in the index"),
        ([], "it has no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        refused(directory, message)


def test_quantised_weights(copied: Callable[[str], Path]) -> None:
    directory = copied("llama")
    name = "model.layers.0.mlp.up_proj.weight"
    reweigh(directory, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    refused(directory, f"{name} is torch.int8; quantised weights are not supported")


def test_reading_takes_no_random_numbers_and_no_transformers(
    directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)  # an import fails
    state = torch.get_rng_state()
    for directory in directories.values():
        read_weights(directory)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("file", ["vocab.json", "spiece.model", "vocab.txt"])
def test_files_of_a_tokenizer_that_are_not_read(file: str, copied: Callable[[str], Path]) -> None:
    directory = copied("bart")
    (directory / file).write_text("{}")
    refused(directory, f"its tokenizer is in {file}, and there is no tokenizer.json", "AutoTokenizer.from_pretrained(")


def test_a_marian_tokenizer_that_is_not_whole(copied: Callable[[str], Path]) -> None:
    directory = copied("marian")
    (directory / "source.spm").write_bytes(b"")
    (directory / "vocab.json").write_text("{}")
    refused(directory, "source.spm, target.spm, vocab.json; target.spm is missing")
