"""`regard.load` of a Marian or BART directory translates texts as `generate` does; Marian's own tokenizers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from regard.interop.huggingface.weights import read_weights

transformers = pytest.importorskip("transformers")

from oracles.huggingface_weights import STACKS, Case, make  # noqa: E402 - it needs transformers

WORDS = [f"w{i}" for i in range(30)]
NAMES = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
SIZES = {**STACKS, "vocab_size": len(NAMES)}
TEXTS = ["w1 w2 w3", "w5", "w29 w28 w27 w1 w1 w0", "w4 unheard w7"]
CASES: dict[str, tuple[Case, dict[str, Any]]] = {
    "marian": (
        Case("MarianConfig", "MarianMTModel", {**SIZES, "decoder_start_token_id": 1}),
        {
            "num_beams": 4,
            "max_length": 12,
            "bad_words_ids": [[1]],
            "no_repeat_ngram_size": 2,
            "forced_eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    "marian, greedy": (
        Case("MarianConfig", "MarianMTModel", {**SIZES, "decoder_start_token_id": 1}),
        {"num_beams": 1, "max_length": 20, "bad_words_ids": [[1], [4, 5]], "no_repeat_ngram_size": 1},
    ),
    "bart": (
        Case("BartConfig", "BartForConditionalGeneration", {**SIZES, "decoder_start_token_id": 2}),
        {
            "num_beams": 4,
            "max_length": 14,
            "min_length": 6,
            "no_repeat_ngram_size": 3,
            "early_stopping": True,
            "length_penalty": 2.0,
            "forced_bos_token_id": 0,
            "forced_eos_token_id": 2,
            "decoder_start_token_id": 2,
        },
    ),
    "pegasus": (
        Case("PegasusConfig", "PegasusForConditionalGeneration", {**SIZES, "decoder_start_token_id": 1}),
        {"num_beams": 5, "max_length": 30, "no_repeat_ngram_size": 2, "length_penalty": 0.6, "early_stopping": "never"},
    ),
}


def tokenizer(bart: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    whole = Tokenizer(models.WordLevel({name: i for i, name in enumerate(NAMES)}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "<s> $A </s>" if bart else "$A </s>"
    whole.post_processor = processors.TemplateProcessing(template, special_tokens=[("<s>", 0), ("</s>", 2)])
    roles = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **roles)


@pytest.fixture(params=CASES)
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    case, generation = CASES[request.param]
    model = make(case, seed=4)
    model.generation_config = transformers.GenerationConfig(
        **{"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1, **generation}
    )
    model.save_pretrained(tmp_path)
    tokenizer(bart="bart" in request.param).save_pretrained(tmp_path)
    return tmp_path


def generated(directory: Path, **options: Any) -> list[str]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory)
    side = transformers.AutoTokenizer.from_pretrained(directory)
    found = []
    for text in TEXTS:
        inputs = side(text, return_tensors="pt", return_token_type_ids=False)
        found += side.batch_decode(model.generate(**inputs, **options), skip_special_tokens=True)
    return found


def translated(translator: Any, **options: Any) -> list[str]:
    """Translations without the mark of `<unk>`, which theirs leave out."""
    found = [one.text for one in translator.translate(TEXTS, **options)]
    return [" ".join(text.replace("\ufffd", " ").split()) for text in found]


def test_translations_are_those_of_generate(directory: Path) -> None:
    translator = regard.load(directory, device="cpu")
    said = translated(translator)
    assert said == generated(directory)
    assert len(set(" ".join(said).split())) >= 4
    # and what is asked for goes before the directory's own settings
    said = translated(translator, max_length=7, beam=2)
    assert said == generated(directory, max_new_tokens=7, num_beams=2)


def test_scores_are_those_of_the_logits(directory: Path) -> None:
    translator = regard.load(directory, device="cpu")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory)
    side = transformers.AutoTokenizer.from_pretrained(directory)
    source = side(TEXTS[0], return_tensors="pt", return_token_type_ids=False)
    target = torch.tensor([NAMES.index(one) for one in ("w3", "w9")])
    start = model.generation_config.decoder_start_token_id
    with torch.no_grad():
        logits = model(**source, decoder_input_ids=torch.tensor([[start, *target.tolist()]])).logits[0]
    expected = logits.log_softmax(-1)[range(3), [*target.tolist(), 2]]
    assert translator.score([TEXTS[0]], ["w3 w9"])[0] == pytest.approx(expected.tolist(), abs=1e-5)


PROSE = {
    "source.spm": ["two dogs play in the snow", "a cat sleeps and two cats play", "it is a dog; they sleep!"] * 5,
    "target.spm": ["zwei Hunde spielen im Schnee", "eine Katze schläft und Katzen spielen", "es ist ein Hund!"] * 5,
}


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with Marian's own tokenizers; one piece of the source's model is missing in vocab.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    directory = tmp_path_factory.mktemp("marian")
    pieces: list[str] = ["</s>", "<unk>"]
    for file, lines in PROSE.items():
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=written, vocab_size=50, hard_vocab_limit=False, minloglevel=2
        )
        (directory / file).write_bytes(written.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        pieces += [model.id_to_piece(i) for i in range(3, model.get_piece_size())]
    pieces = [one for one in dict.fromkeys([*pieces, ">>deu<<", "<pad>"]) if one != ";"]
    table = {one: i for i, one in enumerate(pieces)}
    (directory / "vocab.json").write_text(json.dumps(table))
    pad = table["<pad>"]
    settings = {**SIZES, "vocab_size": len(table), "pad_token_id": pad, "eos_token_id": 0, "bos_token_id": None}
    model = make(Case("MarianConfig", "MarianMTModel", {**settings, "decoder_start_token_id": pad}), seed=2)
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad, bad_words_ids=[[pad]], num_beams=4, max_length=15
    )
    model.save_pretrained(directory)
    return directory


MARIAN_TEXTS = ["two dogs play", "a cat sleeps; it is!", "snöw Äpfel 😀", ">>deu<< two cats play", "  two   dogs "]


def test_marian_tokenizers_give_the_same_ids(marian: Path) -> None:
    theirs = transformers.MarianTokenizer.from_pretrained(marian)
    found = read_weights(marian)
    source, target = found.tokenizers
    frame, size = found.content["frame"], found.model.config.source_vocabulary
    assert frame["source_begin"] == [] and frame["source_end"] == 0 and frame["source_unknown"] == 1
    for text in [*MARIAN_TEXTS, *PROSE["source.spm"][:3]]:
        ids = [one if one < size else 1 for one in source.encode(text)]
        assert [*ids, 0] == theirs(text).input_ids, text
    for text in PROSE["target.spm"][:3]:
        ids = target.encode(text)
        assert [*ids, 0] == theirs(text_target=text).input_ids
        assert target.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == text
    assert source.vocab_size > size  # otherwise nothing of it was unknown


def test_marian_translates_with_its_own_tokenizers(marian: Path) -> None:
    translator = regard.load(marian, device="cpu")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(marian)
    side = transformers.MarianTokenizer.from_pretrained(marian)
    texts = [MARIAN_TEXTS[i] for i in (0, 1, 3)]
    expected = [
        side.decode(model.generate(**side(text, return_tensors="pt"))[0], skip_special_tokens=True) for text in texts
    ]
    assert [one.text for one in translator.translate(texts)] == [one.strip() for one in expected]
    assert translator.translate(texts[:1], prefixes=["zwei"])[0].text.startswith("zwei")
