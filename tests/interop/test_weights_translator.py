"""`regard.load` of a Marian or BART directory translates texts as `generate` does; Marian's own tokenizers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from regard.insight import links
from regard.interop.huggingface.weights import read_weights, write_weights
from regard.runs.compare.sentences import side_by_side
from regard.runs.ensembles import ensemble
from regard.runs.evaluate import evaluate
from regard.runs.looking import Which, look_at_alignment, readings
from regard.runs.recordings import TranslatorSubject
from regard.runs.scoring import score_pairs

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
    "marian, renormalized": (
        Case("MarianConfig", "MarianMTModel", {**SIZES, "decoder_start_token_id": 1}),
        {
            "num_beams": 4,
            "max_length": 12,
            "bad_words_ids": [[1], [5, 6]],
            "no_repeat_ngram_size": 2,
            "renormalize_logits": True,
            "forced_eos_token_id": 2,
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


def test_what_rules_leave_is_normalised_again(tmp_path: Path) -> None:
    """As `generate` with `renormalize_logits`: the found sequence and its score, which are others without it."""
    case, generation = CASES["marian, renormalized"]
    model = make(case, seed=4)
    scores, texts = [], []
    for again in (True, False):
        model.generation_config = transformers.GenerationConfig(
            pad_token_id=1, eos_token_id=2, decoder_start_token_id=1, **{**generation, "renormalize_logits": again}
        )
        directory = tmp_path / str(again)
        model.save_pretrained(directory)
        tokenizer(bart=False).save_pretrained(directory)
        translator = regard.load(directory, device="cpu")
        assert translator.decoding["renormalize"] is again
        found = translator.translate(TEXTS)
        for text, one in zip(TEXTS, found, strict=True):
            inputs = tokenizer(bart=False)(text, return_tensors="pt", return_token_type_ids=False)
            theirs = model.generate(**inputs, output_scores=True, return_dict_in_generate=True)
            assert one.score == pytest.approx(float(theirs.sequences_scores[0]), abs=1e-5)
        scores.append([one.score for one in found])
        texts.append([one.text for one in found])
    assert texts[0] != texts[1] and scores[0] != pytest.approx(scores[1], abs=0.1)
    written = tmp_path / "written"
    loaded = read_weights(tmp_path / "True")
    write_weights(written, "translation", loaded.model, loaded.tokenizers, loaded.content)
    said = json.loads((written / "generation_config.json").read_text())
    assert said["renormalize_logits"] is True and said["bad_words_ids"] == generation["bad_words_ids"]


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


TARGET = "w3 w9 w1 w2"


def looked_at(directory: Path, source: str, target: str) -> torch.Tensor:
    """Their cross-attention (target words, source words), the mean of layers and heads; each word is a token."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory, attn_implementation="eager")
    side = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = side(source, return_tensors="pt", return_token_type_ids=False)
    said = [NAMES.index("<unk>" if word == "\ufffd" else word) for word in target.split()]
    fed = [model.generation_config.decoder_start_token_id, *said[:-1]]
    with torch.no_grad():
        maps = model(**inputs, decoder_input_ids=torch.tensor([fed]), output_attentions=True).cross_attentions
    places = [int((inputs["input_ids"][0] == NAMES.index(word)).nonzero()) for word in source.split()]
    return torch.stack(maps)[:, 0].mean((0, 1))[:, places]


def test_alignments_are_of_the_words(directory: Path) -> None:
    translator = regard.load(directory, device="cpu")
    expected = looked_at(directory, TEXTS[0], TARGET).numpy()
    found = translator.attention(TEXTS[0], TARGET)
    begin = ["<s>"] if json.loads((directory / "config.json").read_text())["model_type"] == "bart" else []
    assert found.source_tokens == (*begin, *TEXTS[0].split(), "</s>")
    assert found.target_tokens == (*TARGET.split(), "</s>")
    alignment = found.alignment()
    assert (alignment.source_words, alignment.target_words) == (tuple(TEXTS[0].split()), tuple(TARGET.split()))
    assert alignment.weights == pytest.approx(expected, abs=1e-5)
    assert ensemble([translator, translator]).attention(TEXTS[0], TARGET).alignment().weights == pytest.approx(
        expected, abs=1e-5
    )
    # a recording of the same
    seen = look_at_alignment(readings(TranslatorSubject(translator).record([TEXTS[0]], [TARGET])), Which(), "").shown
    assert (seen.source_words, seen.target_words) == (alignment.source_words, alignment.target_words)
    assert seen.weights == pytest.approx(expected, abs=1e-5)
    # judged against links: its own are all right, and all others all wrong
    own = links(alignment)
    others = {(i, j) for i in range(3) for j in range(4)} - own
    for gold, rate in ((own, 0.0), (others, 1.0)):
        judged = evaluate(translator, [TEXTS[0]], [TARGET], gold=[(gold, gold)]).alignment
        assert judged is not None and judged.error_rate == pytest.approx(rate)


def test_what_was_translated_points_at_its_source(directory: Path) -> None:
    translator = regard.load(directory, device="cpu")
    (one,) = side_by_side([("it", translator)], TEXTS[:1], ["w1"])
    (said,) = translator.translate(TEXTS[:1], attention=True)
    assert one.said[0].text == said.text and said.attention is not None
    expected = looked_at(directory, TEXTS[0], said.text)
    assert torch.tensor(one.said[0].weights) == pytest.approx(expected, abs=1e-3)
    assert said.attention.alignment().weights == pytest.approx(expected.numpy(), abs=1e-5)


def test_no_place_of_a_single_pair_is_padding(directory: Path) -> None:
    translator = regard.load(directory, device="cpu")
    recording = TranslatorSubject(translator).record(TEXTS[:2], [TARGET, "w1"])
    target, source = recording.tokens("decoder.layers.0.cross")
    assert [one.padding for one in target] == [(), (False, False, True, True, True)]
    assert [word.text for word in target[1].words] == ["w1"] and not source[0].padding


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


def test_marian_reads_as_unknown_what_it_lacks(marian: Path) -> None:
    translator = regard.load(marian, device="cpu")
    text, target = MARIAN_TEXTS[1], "eine Katze"
    found = translator.attention(text, target)
    assert "<unk>" in found.source_tokens and found.source_tokens[-1] == "</s>"
    for one in MARIAN_TEXTS:
        source = translator.tokenizers.source
        assert len(source.text_spans(one)) == len(source.encode(one))
    recording = TranslatorSubject(translator).record([text], [target])
    target_tokens, source_tokens = recording.tokens("decoder.layers.0.cross")
    assert source_tokens[0].texts == found.source_tokens
    assert target_tokens[0].texts == ("<pad>", *found.target_tokens[:-1]) and not target_tokens[0].padding
    assert next(score_pairs(translator, [text], [target]))[0].tokens == found.target_tokens
