"""Models of this package as Hugging Face directories: transformers computes the same, and they can be read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from regard.data import train_tokenizer
from regard.data.given_tokenizers import read_tokenizer
from regard.data.tokenizers import Tokenizer
from regard.errors import ArgumentError, UnsupportedError
from regard.interop.huggingface.weights import read_weights, write_weights, writing
from regard.models.bert import BERTConfig, build_bert, build_classifier, build_masked_language_model, build_tagger
from regard.models.gpt import GPTConfig, build_gpt
from regard.models.rnn_seq2seq import RNNSeq2SeqConfig, build_rnn_seq2seq
from regard.models.transformer import TransformerConfig, build_transformer

transformers = pytest.importorskip("transformers")

from oracles.huggingface_weights import ALL, ENCODER_DECODERS, PAD, batch, make, saved  # noqa: E402 - it needs transformers

V = 41
DECODING = {"beam": 3, "penalty": "average", "alpha": 0.7, "max_ratio": 2.0}
FRAME = {"start": 0, "end": 2, "pad": PAD, "begin": 3, "source_begin": [], "source_end": 2, "source_pad": PAD}
PLAIN = TransformerConfig(V, V, 2, 2, 24, 32, 3, dropout=0.0, max_length=48)
TRANSFORMERS = {
    "marian": PLAIN,
    "marian ": replace(PLAIN, target_vocabulary=37, shared="target", activation="silu", output_bias=True),
    "marian  ": replace(PLAIN, shared="none", embedding_scale=False, activation="gelu_tanh"),
    "bart": replace(PLAIN, positions="learned", embedding_norm=True, embedding_scale=False, activation="gelu"),
    "bart ": replace(PLAIN, positions="learned", embedding_norm=True, output_bias=True),
    "pegasus": replace(PLAIN, norm="pre", output_bias=True),
    "m2m_100": replace(PLAIN, norm="pre", positions="tensor2tensor"),
}
NANO = GPTConfig(V, layers=2, width=24, feedforward=40, heads=4, max_length=48, dropout=0.0)
LLAMA = replace(
    NANO, norm="rms", positions="rotary", feedforward_kind="gated", bias="none", activation="silu", shared=False
)
GPTS = {
    "gpt2": NANO,
    "gpt2 ": replace(NANO, activation="gelu_tanh", shared=False, norm_epsilon=1e-3),
    "llama": replace(LLAMA, key_heads=2, rotary_base=777.0, norm_epsilon=1e-6),
    "llama ": replace(LLAMA, bias="all", head_width=10, shared=True),
    "llama  ": replace(LLAMA, rotary_factor=8.0, rotary_original=16, rotary_low=1.5, rotary_high=5.0),
    "llama   ": replace(LLAMA, rotary_factor=3.0),
    "qwen2": replace(LLAMA, bias="queries_keys_values"),
}
BERT = BERTConfig(V, layers=2, width=24, feedforward=40, heads=3, max_length=48, dropout=0.0)
PROSE = ["Two dogs play in the snow, don't they?", "A cat sleeps; it's 42 years old. Zwei Hunde schlafen!"] * 4


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of which every one matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in model.parameters():
            noise = torch.randn(one.shape, generator=generator)
            one.copy_(0.25 * noise if one.ndim > 1 else one + 0.3 * noise)
    return model.eval()


def assert_read_again(directory: Path, model: Any) -> None:
    again = read_weights(directory)
    assert again.model.config == model.config
    ours, theirs = model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_transformers_computes_what_a_transformer_does(name: str, tmp_path: Path) -> None:
    config = TRANSFORMERS[name]
    model = spread(build_transformer(config))
    directory = tmp_path / "out"
    write_weights(directory, "translation", model, (), {"decoding": DECODING, "frame": FRAME})
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(directory)
    assert theirs.config.model_type == name.strip()
    source, lengths = batch()
    target = torch.randint(3, 37, (3, 7), generator=torch.Generator().manual_seed(2))
    mask = (source != PAD).long()
    logits = theirs(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    assert logits.std() > 0.1
    torch.testing.assert_close(model.output(model(source, lengths, target)), logits, atol=1e-5, rtol=0)
    assert (theirs.generation_config.num_beams, theirs.generation_config.length_penalty) == (3, 0.7)
    assert_read_again(directory, model)
    content = read_weights(directory).content
    assert content["frame"] == FRAME and content["decoding"].items() >= (DECODING | {"max_length": 47}).items()


@pytest.mark.parametrize("name", GPTS)
@torch.no_grad()
def test_transformers_computes_what_a_gpt_does(name: str, tmp_path: Path) -> None:
    model = spread(build_gpt(GPTS[name]))
    content = {"generation": {"begin": None, "end": [2, 5]}}
    write_weights(tmp_path / "out", "language_modelling", model, (), content)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.config.model_type == name.strip()
    tokens, _ = batch(longest=30)
    torch.testing.assert_close(model.output(model(tokens)), theirs(tokens).logits, atol=1e-5, rtol=0)
    assert_read_again(tmp_path / "out", model)
    assert read_weights(tmp_path / "out").content == content


@pytest.mark.parametrize("bias", ["none", "queries_keys_values"])
@torch.no_grad()
def test_biases_that_are_not_there_are_zero_in_gpt2(bias: Any, tmp_path: Path) -> None:
    model = spread(build_gpt(replace(NANO, bias=bias)))
    write_weights(tmp_path / "out", "language_modelling", model, (), {"generation": {"begin": None, "end": [2]}})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    again: Any = read_weights(tmp_path / "out").model
    assert theirs.config.model_type == "gpt2" and again.config == NANO
    tokens, _ = batch(longest=30)
    logits = model.output(model(tokens))
    torch.testing.assert_close(logits, theirs(tokens).logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, again.output(again(tokens)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("task", ["masked_language_modelling", "next", "classification", "tagging", "encoder"])
@torch.no_grad()
def test_transformers_computes_what_a_bert_does(task: str, tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    tokens, lengths = batch()
    mask = torch.arange(9)[None] < lengths[:, None]
    types = (torch.arange(9)[None] > 2).long().expand(3, 9)
    kind = task
    match task:
        case "masked_language_modelling" | "next":
            model: Any = build_masked_language_model(BERT, next_sentence=task == "next")
            content, kind = {"mask": None, "next_sentence": task == "next"}, "masked_language_modelling"
            opens = transformers.AutoModelForPreTraining
        case "classification":
            model, content = build_classifier(BERT, 3), {"labels": ["bad", "good", "so-so"]}
            opens = transformers.AutoModelForSequenceClassification
        case "tagging":
            model, content = build_tagger(BERT, 2), {"labels": ["O", "B"]}
            opens = transformers.AutoModelForTokenClassification
        case _:
            model, opens = build_bert(BERT), transformers.AutoModel
    spread(model)
    write_weights(tmp_path / "out", kind, model, (), content)
    if task == "masked_language_modelling":
        opens = transformers.AutoModelForMaskedLM
    theirs = opens.from_pretrained(tmp_path / "out")
    result = theirs(input_ids=tokens, attention_mask=mask.long(), token_type_ids=types)
    ours = model(tokens, lengths, types)
    if "labels" in content:
        assert theirs.config.id2label == dict(enumerate(content["labels"]))
        expected = result.logits
    elif task == "next":
        ours, expected = model.output(ours), result.prediction_logits
        following = model.following(model.encoder(tokens, lengths, types))
        torch.testing.assert_close(following, result.seq_relationship_logits, atol=1e-5, rtol=0)
    elif task == "encoder":
        expected = result.last_hidden_state
    else:
        ours, expected = model.output(ours), result.logits
    kept = slice(None) if task == "classification" else mask
    torch.testing.assert_close(ours[kept], expected[kept], atol=1e-5, rtol=0)
    assert_read_again(tmp_path / "out", model)
    assert read_weights(tmp_path / "out").content == content


TEXTS = ["Two dogs play in the snow, don't they?", "it's 42 snow", "Ein Häuschen 😀 am Meer", "x", "A  cat sleeps"]
KINDS = ("bpe", "unigram", "word", "char")


def trained(kind: Any) -> Tokenizer:
    return train_tokenizer(kind, PROSE, 330 if kind in ("bpe", "unigram") else None)


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_of_translation_give_the_same_ids(kind: str, tmp_path: Path) -> None:
    one = trained(kind)
    config = replace(PLAIN, source_vocabulary=one.vocab_size, target_vocabulary=one.vocab_size)
    model = build_transformer(config)
    write_weights(tmp_path / "out", "translation", model, (one, one), {"decoding": DECODING})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    again = read_weights(tmp_path / "out")
    assert len(again.tokenizers) == 1
    assert again.content["frame"].items() >= {"start": 1, "end": 2, "pad": 0, "source_end": 2}.items()
    for text in [*TEXTS, "  spaces around "]:
        ids = one.encode(text)
        assert theirs(text).input_ids == [*ids, 2]
        assert again.tokenizers[0].encode(text) == ids
        assert theirs.decode([1, *ids, 2, 0], skip_special_tokens=True) == one.decode(ids) or 3 in ids
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 2, 3)
    assert theirs(["x", "Two dogs play"], padding=True).input_ids[0][-1] == 0


def test_two_tokenizers_of_translation(tmp_path: Path) -> None:
    source, target = trained("bpe"), trained("char")
    sizes = {"source_vocabulary": source.vocab_size, "target_vocabulary": target.vocab_size}
    model = build_transformer(replace(PLAIN, **sizes, shared="target"))
    write_weights(tmp_path / "out", "translation", model, (source, target), {"decoding": DECODING})
    first = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    second = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "target")
    again = read_weights(tmp_path / "out").tokenizers
    for text in TEXTS:
        assert first(text).input_ids == [*source.encode(text), 2] and again[0].encode(text) == source.encode(text)
        assert second(text).input_ids == [*target.encode(text), 2] and again[1].encode(text) == target.encode(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", [None, 1])
def test_tokenizers_of_language_models_give_the_same_ids(kind: str, begin: int | None, tmp_path: Path) -> None:
    one = trained(kind)
    model = build_gpt(replace(NANO, vocabulary=one.vocab_size))
    content = {"generation": {"begin": begin, "end": [2]}}
    write_weights(tmp_path / "out", "language_modelling", model, (one,), content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    again = read_weights(tmp_path / "out")
    assert again.content == content
    for text in [*TEXTS, "\nTwo dogs\n play", " cat"]:
        ids = one.encode_text(text)
        assert theirs(text).input_ids == [*([] if begin is None else [begin]), *ids]
        assert again.tokenizers[0].encode_text(text) == ids
    assert set(theirs("x")) == {"input_ids", "attention_mask"}  # `generate` wants no types


def test_the_mask_of_a_trained_tokenizer_is_an_id_of_its_own(tmp_path: Path) -> None:
    one = trained("bpe")
    size = one.vocab_size
    model = build_masked_language_model(replace(BERT, vocabulary=size + 1))
    content = {"mask": size, "next_sentence": False}
    write_weights(tmp_path / "out", "masked_language_modelling", model, (one,), content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.mask_token_id == size and theirs.cls_token_id == 1 and theirs.sep_token_id == 2
    found = theirs("Two dogs<mask> in", " the snow")
    two = [one.encode_text(text) for text in ("Two dogs", " in", " the snow")]
    assert found.input_ids == [1, *two[0], size, *two[1], 2, *two[2], 2]
    assert found.token_type_ids == [0] * (len(two[0]) + len(two[1]) + 3) + [1] * (len(two[2]) + 1)
    again = read_weights(tmp_path / "out")
    assert again.content == content and again.tokenizers[0].mask_id == size


def _wordpiece(directory: Path) -> Path:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    names = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdeghilmnoprstwy",
        *(f"##{one}" for one in "abcdegnostwy"),
        "snow",
    ]
    whole = Library(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    whole.normalizer = normalizers.BertNormalizer()
    whole.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    whole.decoder = decoders.WordPiece()
    whole.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    whole.add_special_tokens(names[:5])
    file = directory / "wordpiece.json"
    whole.save(str(file))
    return file


def test_tokenizers_of_others_give_the_same_ids(tmp_path: Path) -> None:
    """BERT's WordPiece: read, written, opened by transformers, read again."""
    file = _wordpiece(tmp_path)
    one = read_tokenizer(file)
    model = build_masked_language_model(replace(BERT, vocabulary=len(json.loads(file.read_text())["model"]["vocab"])))
    content = {"mask": 4, "next_sentence": False}
    write_weights(tmp_path / "out", "masked_language_modelling", model, (one,), content)
    before = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))
    after = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ["Two dogs play [MASK] the snow", "cats; SNOW", "Ä snow"]:
        assert after(text).input_ids == before(text).input_ids
        assert after(text, text).input_ids == before(text, text).input_ids
        assert after(text, text).token_type_ids == before(text, text, return_token_type_ids=True).token_type_ids
    again = read_weights(tmp_path / "out")
    assert again.content == content
    assert again.tokenizers[0].encode_text("two dogs") == one.encode_text("two dogs")
    assert (after.cls_token, after.sep_token, after.mask_token, after.pad_token) == (
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[PAD]",
    )


def test_special_tokens_that_a_model_does_not_have_are_left_out(tmp_path: Path) -> None:
    """GPT-2's tokenizer has one special token; here it gets others, behind its vocabulary."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = Library(models.BPE({one: i for i, one in enumerate(alphabet)}, []))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    whole.add_special_tokens(["<|endoftext|>"])
    whole.save(str(tmp_path / "bytes.json"))
    one = read_tokenizer(tmp_path / "bytes.json")
    assert one.vocab_size > 257
    model = build_gpt(replace(NANO, vocabulary=257))
    content = {"generation": {"begin": None, "end": [256]}}
    write_weights(tmp_path / "out", "language_modelling", model, (one,), content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(theirs) == 257 and theirs.eos_token_id == 256
    assert theirs("ein Häuschen\n 😀").input_ids == one.encode_text("ein Häuschen\n 😀")
    assert theirs("a<|endoftext|>").input_ids[-1] == 256
    with pytest.raises(UnsupportedError, match="the tokenizer has 256 ids, the model a vocabulary of 200"):
        write_weights(tmp_path / "no", "language_modelling", build_gpt(replace(NANO, vocabulary=200)), (one,), content)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            replace(PLAIN, positions="learned"),
            "marian has no positions = 'learned'; bart has no embedding_norm = False",
        ),
        (replace(PLAIN, norm="pre", shared="none"), "pegasus has no shared = 'none'"),
        (replace(PLAIN, heads=4, key_heads=2), "marian has no key_heads = 2"),
        (replace(PLAIN, norm="pre", positions="tensor2tensor", output_bias=True), "m2m_100 has no output_bias = True"),
    ],
)
def test_transformers_that_no_family_computes(config: TransformerConfig, message: str, tmp_path: Path) -> None:
    content = {"decoding": DECODING, "frame": FRAME}
    with pytest.raises(UnsupportedError) as error:
        write_weights(tmp_path / "out", "translation", build_transformer(config), (), content)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_other_models_that_no_family_computes(tmp_path: Path) -> None:
    content = {"generation": {"begin": None, "end": []}}
    model = build_gpt(replace(NANO, positions="sinusoidal"))
    with pytest.raises(UnsupportedError, match="gpt2 has no positions = 'sinusoidal'; llama has no norm = 'layer'"):
        write_weights(tmp_path / "out", "language_modelling", model, (), content)
    rnn = build_rnn_seq2seq(RNNSeq2SeqConfig(V, V, embedding=6, width=8))
    with pytest.raises(UnsupportedError, match="no model like this one: "):
        write_weights(tmp_path / "out", "translation", rnn, (), {"decoding": DECODING, "frame": FRAME})
    with pytest.raises(ArgumentError, match="task is 'captioning'"):
        write_weights(tmp_path / "out", "captioning", rnn, (), {})


def test_a_directory_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, content = build_gpt(NANO), {"generation": {"begin": None, "end": []}}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(ArgumentError, match="full is there already"):
        write_weights(tmp_path / "full", "language_modelling", model, (), content)

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(writing, "write_tokenizers", fails)
    with pytest.raises(OSError, match="no space left"):
        write_weights(tmp_path / "out", "language_modelling", model, (), content)
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["full"]
    (tmp_path / "empty").mkdir()
    write_weights(tmp_path / "empty", "language_modelling", model, (), content)
    assert sorted(one.name for one in (tmp_path / "empty").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert {one.name for one in tmp_path.iterdir()} == {"full", "empty"}


GENERATION = {
    "num_beams": 3,
    "max_length": 20,
    "min_length": 4,
    "length_penalty": 0.5,
    "early_stopping": "never",
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[1], [5, 6]],
    "forced_bos_token_id": 7,
    "forced_eos_token_id": 2,
}


@pytest.mark.parametrize("name", ALL)
def test_what_was_read_is_written_as_it_was(name: str, tmp_path: Path) -> None:
    """Every number, and all that config.json says of what is computed."""
    saved(make(ALL[name]), tmp_path / "given", **(GENERATION if name in ENCODER_DECODERS else {}))
    found = read_weights(tmp_path / "given")
    write_weights(tmp_path / "again", found.task, found.model, (), found.content)
    again = read_weights(tmp_path / "again")
    assert (again.task, again.content, again.model.config) == (found.task, found.content, found.model.config)
    before, after = (
        {key.removeprefix("bert."): value for key, value in load_file(tmp_path / where / "model.safetensors").items()}
        for where in ("given", "again")
    )
    assert before.keys() ^ after.keys() <= {"final_logits_bias", "pooler.dense.weight", "pooler.dense.bias"}
    for key in before.keys() & after.keys():
        first = 2 if "embed_positions" in key and "bart" in name else 0  # nothing reads those before
        assert torch.equal(before[key][first:], after[key][first:]), key
