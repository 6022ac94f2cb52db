"""`regard.load` of language models and BERTs of Hugging Face: on texts, what transformers gives with its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from regard.errors import CheckpointError

transformers = pytest.importorskip("transformers")

from oracles.huggingface_weights import SMALL, Case, make  # noqa: E402 - it needs transformers

GPT2 = {"n_positions": 48, "n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 260}
PROMPTS = ["Zwei Hunde", "a", "it's 42\nand 😀"]


def byte_level(directory: Path, template: bool) -> None:
    """Bytes as pieces, a few merges, and special tokens behind them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("H", "u"), ("Hu", "n")]
    pieces = [*alphabet, "Hu", "Hun"]
    whole = Tokenizer(models.BPE({one: i for i, one in enumerate(pieces)}, merges))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens(["<s>", "</s>"])
    if template:
        whole.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 258)])
    side = transformers.PreTrainedTokenizerFast(tokenizer_object=whole, bos_token="<s>", eos_token="</s>")
    side.save_pretrained(directory)


@pytest.fixture(params=["gpt2", "llama"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    ids = {"bos_token_id": 258, "eos_token_id": [259, 5]}
    cases = {
        "gpt2": Case("GPT2Config", "GPT2LMHeadModel", {**GPT2, **ids}),
        "llama": Case("LlamaConfig", "LlamaForCausalLM", {**SMALL, "vocab_size": 260, "num_key_value_heads": 2, **ids}),
    }
    make(cases[request.param], seed=5).save_pretrained(tmp_path)
    byte_level(tmp_path, template=request.param == "llama")
    return tmp_path


@pytest.mark.parametrize("beam", [1, 4])
def test_language_models_say_what_generate_does(directory: Path, beam: int) -> None:
    ours = regard.load(directory, device="cpu")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    side = transformers.AutoTokenizer.from_pretrained(directory)
    found = ours.generate(PROMPTS, max_tokens=15, beam=beam)
    for prompt, one in zip(PROMPTS, found, strict=True):
        inputs = side(prompt, return_tensors="pt", return_token_type_ids=False)
        said = model.generate(**inputs, max_new_tokens=15, num_beams=beam, do_sample=False)[0]
        tokens = said[inputs.input_ids.shape[1] :].tolist()
        ends = [place for place, token in enumerate(tokens) if token in (259, 5)]
        assert list(one.tokens) == ours.tokenizer.pieces(tokens[: ends[0] if ends else None])


def test_scores_of_language_models(directory: Path) -> None:
    ours = regard.load(directory, device="cpu")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    ids = transformers.AutoTokenizer.from_pretrained(directory)(PROMPTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    assert ours.score([PROMPTS[0]])[0] == pytest.approx(expected.tolist(), abs=1e-5)


def wordpiece(directory: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "two", "dogs", "play", "the", "snow", "in", "##s", "dog"]
    whole = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    whole.normalizer = normalizers.BertNormalizer()
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.decoder = decoders.WordPiece()
    whole.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    roles = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    side = transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole, **{f"{role}_token": names[i] for role, i in roles.items()}
    )
    side.save_pretrained(directory)


def opened(case: Case, directory: Path) -> tuple[Any, Any, Any]:
    model = make(case)
    model.save_pretrained(directory)
    wordpiece(directory)
    return regard.load(directory, device="cpu"), model, transformers.AutoTokenizer.from_pretrained(directory)


TEXTS = ["Two dogs play", "the snow in the snow", "dogs [UNK]"]


def test_masks_are_filled_as_transformers_fills_them(tmp_path: Path) -> None:
    ours, model, side = opened(Case("BertConfig", "BertForMaskedLM", {**SMALL, "vocab_size": 13}), tmp_path)
    text = "two dogs [MASK] the snow"
    with torch.no_grad():
        shares = model(**side(text, return_tensors="pt")).logits[0, 3].softmax(-1)
    candidates = ours.fill(text, top=3)[0]
    values, tokens = shares.topk(3)
    assert [one.token for one in candidates] == tokens.tolist()
    assert [one.probability for one in candidates] == pytest.approx(values.tolist(), abs=1e-5)


def test_labels_are_those_of_transformers(tmp_path: Path) -> None:
    names = {"id2label": {0: "bad", 1: "good", 2: "so-so"}, "label2id": {"bad": 0, "good": 1, "so-so": 2}}
    case = Case("BertConfig", "BertForSequenceClassification", {**SMALL, "vocab_size": 13, **names})
    ours, model, side = opened(case, tmp_path)
    for text, one in zip(TEXTS[:2], ours.classify(TEXTS[:2]), strict=True):
        with torch.no_grad():
            shares = model(**side(text, return_tensors="pt")).logits[0].softmax(-1)
        assert one.label == names["id2label"][int(shares.argmax())]
        assert one.probability == pytest.approx(float(shares.max()), abs=1e-5)


def test_what_a_directory_needs_beside_its_weights(tmp_path: Path) -> None:
    make(Case("GPT2Config", "GPT2LMHeadModel", GPT2)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json"):
        regard.load(tmp_path, device="cpu")
    bare = tmp_path / "bare"
    make(Case("BertConfig", "BertModel", SMALL)).save_pretrained(bare)
    with pytest.raises(CheckpointError, match="a model without a head"):
        regard.load(bare, device="cpu")


def test_ids_that_a_language_model_does_not_have(directory: Path) -> None:
    file = directory / "generation_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"eos_token_id": [259, 99999]}))
    with pytest.raises(CheckpointError, match=r"generation_config\.json: .*99999"):
        regard.load(directory, device="cpu")
    file.unlink()
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token_id": 99999}))
    with pytest.raises(CheckpointError, match=r"/config\.json: .*99999"):
        regard.load(directory, device="cpu")


def test_special_tokens_that_are_typed_are_plain_text(directory: Path) -> None:
    ours = regard.load(directory, device="cpu")
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    assert 259 in theirs("Hun</s>").input_ids
    ids = ours.tokenizer.encode_text("Hun</s>")
    assert 259 not in ids and ours.tokenizer.text_of(ids) == b"Hun</s>"


def test_a_configuration_that_says_neither_format_nor_family(tmp_path: Path) -> None:
    """As the directories of google/bert_uncased_… are."""
    make(Case("BertConfig", "BertForMaskedLM", {**SMALL, "vocab_size": 13})).save_pretrained(tmp_path)
    wordpiece(tmp_path)
    config = tmp_path / "config.json"
    content = json.loads(config.read_text())
    named = {name: content.pop(name) for name in ("model_type", "architectures")}
    config.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"config\.json: it has no format.* and no model_type and architectures"):
        regard.load(tmp_path, device="cpu")
    config.write_text(json.dumps(content | named))
    regard.load(tmp_path, device="cpu")
