"""Hugging Face's BERT as what gaps are filled with and labels learned from, beside transformers itself."""

from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from label_examples import classification_recipe, labelled
from regard.runs.labels import Classifier, Tagger
from regard.runs.masked_model import MaskedModel
from regard.runs.recipes import parse_recipe
from regard.runs.train import Run

transformers = pytest.importorskip("transformers")

WORDS = sorted({word for _, text in labelled(200) for word in text.lower().split()})
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing", ".", ","]
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


def directory(folder: Path, architecture: str, **more: Any) -> tuple[Path, Any, Any]:
    """A directory with a model of random weights and a tokenizer; with both."""
    vocabulary = {piece: number for number, piece in enumerate(VOCABULARY)}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary, do_lower_case=True)
    torch.manual_seed(3)
    model = getattr(transformers, architecture)(transformers.BertConfig(**SIZES, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)  # fresh weights say nearly the same everywhere
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model", model, tokenizer


def test_gaps_and_vectors_are_those_of_transformers(tmp_path: Path) -> None:
    path, model, tokenizer = directory(tmp_path, "BertForMaskedLM")
    found = regard.load(path, device="cpu")
    assert isinstance(found, MaskedModel)
    texts = ["I see a [MASK] today", "[MASK] like a dog, [MASK]ing cups."]
    for text, gaps in zip(texts, found.fill_batch(texts, top=4), strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        assert found.encode(text) == inputs.input_ids[0].tolist()
        with torch.no_grad():
            probabilities = model(**inputs).logits[0].softmax(-1)
        places = (inputs.input_ids[0] == tokenizer.mask_token_id).nonzero()[:, 0].tolist()
        assert len(places) == len(gaps) > 0
        for place, candidates in zip(places, gaps, strict=True):
            best = probabilities[place].topk(4)
            assert [one.token for one in candidates] == best.indices.tolist()
            assert [one.probability for one in candidates] == pytest.approx(best.values.tolist(), rel=1e-4)
            assert [one.piece for one in candidates] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
    texts = [text.replace("[MASK]", "hat") for text in texts]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model.bert(**batch).last_hidden_state
    real = batch.attention_mask[..., None]
    torch.testing.assert_close(found.embed(texts), (states * real).sum(1) / real.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.embed(texts, "cls"), states[:, 0], rtol=1e-4, atol=1e-4)


def test_classes_are_those_of_transformers(tmp_path: Path) -> None:
    names = {0: "good", 1: "bad", 2: "so-so"}
    path, model, tokenizer = directory(tmp_path, "BertForSequenceClassification", id2label=names)
    found = regard.load(path, device="cpu")
    assert isinstance(found, Classifier)
    assert found.labels == ("good", "bad", "so-so")
    pairs = [("I see a cat", "there is a dog"), ("a hat", "look at a fox in the big old house")]
    for items in ([a for a, _ in pairs], pairs):
        for item, one in zip(items, found.classify(items), strict=True):
            inputs = tokenizer(*([item] if isinstance(item, str) else item), return_tensors="pt")
            with torch.no_grad():
                expected = model(**inputs).logits[0].softmax(-1).tolist()
            assert list(one.probabilities.values()) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_tags_are_those_of_transformers_at_first_pieces(tmp_path: Path) -> None:
    names = {0: "O", 1: "B-X", 2: "I-X"}
    path, model, tokenizer = directory(tmp_path, "BertForTokenClassification", id2label=names)
    found = regard.load(path, device="cpu")
    assert isinstance(found, Tagger)
    words = ["I", "see", "cats", "looking", ",", "today"]
    inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**inputs).logits[0].softmax(-1)
    of = inputs.word_ids()
    assert len(of) > len(words) + 2  # some words have several pieces
    for number, one in enumerate(found.tag([words])[0]):
        best = probabilities[of.index(number)].max(-1)
        assert one.tag == names[int(best.indices)]
        assert one.probability == pytest.approx(float(best.values), rel=1e-4)


@pytest.mark.parametrize("architecture", ["BertModel", "BertForMaskedLM"])
def test_fine_tuning_starts_from_its_encoder_and_tokenizer(tmp_path: Path, architecture: str) -> None:
    path, model, tokenizer = directory(tmp_path, architecture)
    content = classification_recipe(tmp_path, init_from=str(path), steps=30)
    content["model"] = {}
    run = Run(parse_recipe(content), tmp_path / "run", lambda text: None)
    assert run.model.encoder.config.layers == 2
    inputs = tokenizer("I see a cat", return_tensors="pt")
    run.model.eval()
    with torch.no_grad():
        encoder = model if architecture == "BertModel" else model.bert
        expected = encoder(**inputs).last_hidden_state
        found = run.model.encoder(inputs.input_ids, torch.tensor([inputs.input_ids.shape[1]]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    run.train()
    trained = regard.load(tmp_path / "run", device="cpu")
    assert trained.tokenizer.encode("I see a cat") == tokenizer("I see a cat", add_special_tokens=False).input_ids
    assert {one.label for one in trained.classify(["I see a cat"])} <= {"animal", "thing"}
