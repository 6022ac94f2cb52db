"""`reader_of`: names, special flags and words of ids, for each kind of tokenizer; all of them are trained here."""

import functools
import time
from collections.abc import Sequence

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from regard.insight.tokens import Tokens
from regard.interop.huggingface.tokens import reader_of

TEXTS = ["two dogs play in the snow.", "die Hunde spielen, über 你好世界。", "naïve café 😀 ok"]
WORDS = [
    ["two", "dogs", "play", "in", "the", "snow", "."],
    ["die", "Hunde", "spielen", ",", "über", "你", "好", "世", "界", "。"],
    ["naïve", "café", "😀", "ok"],
]


@functools.cache  # training draws: ties may fall otherwise the next time
def _byte_level() -> transformers.PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<pad>"],
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<|end|>", eos_token="<|end|>", unk_token="<|end|>", pad_token="<pad>"
    )


@functools.cache
def _unigram() -> transformers.PreTrainedTokenizerFast:
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "</s>", "<pad>"], unk_token="<unk>", show_progress=False
    )
    inner.train_from_iterator(TEXTS * 3, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@functools.cache
def _byte_fallback() -> transformers.PreTrainedTokenizerFast:
    """SentencePiece's BPE as Llama has it: ▁ for spaces, bytes for what isn't in the vocabulary."""
    marks = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", "<s>", "</s>", *marks, "▁", *sorted(set("".join(TEXTS[:1]).replace(" ", "")))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@functools.cache
def _wordpiece() -> transformers.PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=80, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"], show_progress=False
    )
    inner.train_from_iterator([*TEXTS * 3, "他世界你好"], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )


@functools.cache
def _ended() -> transformers.PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    inner.train_from_iterator(TEXTS * 3, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


KINDS = {
    "byte-level": _byte_level,
    "unigram": _unigram,
    "byte fallback": _byte_fallback,
    "wordpiece": _wordpiece,
    "ended": _ended,
}


def _read(tokenizer: transformers.PreTrainedTokenizerFast, text: str) -> tuple[list[int], Tokens]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids, reader_of(tokenizer)("text", ids, [True] * len(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("text", "expected"), list(zip(TEXTS, WORDS, strict=True)), ids=["en", "de zh", "fr"])
def test_words_are_those_of_the_text(kind: str, text: str, expected: list[str]) -> None:
    tokenizer = KINDS[kind]()
    ids, tokens = _read(tokenizer, text)
    assert "".join(word.text for word in tokens.words) == "".join(expected)
    assert tokens.ids == tuple(ids) and len(tokens.texts) == len(tokens.special) == len(ids)
    assert not any(tokens.special)
    for word in tokens.words:
        assert word.text in tokenizer.decode([ids[i] for i in word.tokens])
        # words are a reader's, but for those that one token reaches over, which are one
        assert word.text in expected or len(word.tokens) < len(word.text)
    used = [i for word in tokens.words for i in word.tokens]
    assert used == sorted(set(used))


def _names(kind: str, text: str) -> tuple[str, ...]:
    return _read(KINDS[kind](), text)[1].texts


def test_names_are_readable() -> None:
    assert _names("byte-level", "two dogs")[-1].endswith("s")
    assert "▁" in "".join(_names("byte-level", "two dogs")) and "Ġ" not in "".join(_names("byte-level", "two dogs"))
    assert "".join(_names("byte-level", "two\ndogs")) == "two\\ndogs"
    assert _names("byte-level", "€") == ("<0xE2>", "<0x82>", "<0xAC>")
    assert _names("byte fallback", "wü") == ("▁", "w", "<0xC3>", "<0xBC>")
    assert "".join(_names("unigram", "two dogs")) == "▁two▁dogs"
    assert "".join(_names("wordpiece", "dogsplay")).count("##") == len(_names("wordpiece", "dogsplay")) - 1 > 0
    assert "".join(_names("ended", "two dogs")) == "twodogs"


def test_special_tokens_and_padding() -> None:
    tokenizer = _wordpiece()
    cls, sep, pad, unknown = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]", "[PAD]", "[UNK]"])
    dogs = tokenizer("dogs", add_special_tokens=False)["input_ids"]
    ids = [cls, *dogs, unknown, sep, *dogs, sep, pad]
    tokens = reader_of(tokenizer)("text", ids, [*[True] * (len(ids) - 1), False])
    n = len(dogs)
    special = [True, *[False] * n, False, True, *[False] * n, True, True]  # what is unknown is a part of the text
    assert list(tokens.special) == special
    assert tokens.texts[0] == "[CLS]" and tokens.texts[-1] == "[PAD]"
    assert [word.text for word in tokens.words] == ["dogs", "\ufffd", "dogs"]
    assert tokens.words[1].tokens == (n + 1,)


def test_no_word_goes_on_behind_a_special_token_or_padding() -> None:
    tokenizer = _byte_level()
    two = tokenizer("two", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    read = reader_of(tokenizer)
    tokens = read("text", [*two, end, *two], [True] * (2 * len(two) + 1))
    assert [word.text for word in tokens.words] == ["two", "two"]
    assert tokens.special[len(two)]  # though it stands for the unknown too, as in GPT-2
    padded = read("text", [*two, *two], [*[False] * len(two), *[True] * len(two)])
    assert padded.special == (*[True] * len(two), *[False] * len(two))
    assert [word.tokens for word in padded.words] == [tuple(range(len(two), 2 * len(two)))]


def test_added_tokens() -> None:
    tokenizer = _byte_level()
    tokenizer.add_tokens(["snowman"])
    _, tokens = _read(tokenizer, "two snowman")
    assert tokens.texts[-1] == "snowman" and not tokens.special[-1]
    assert [word.text for word in tokens.words] == ["two", "snowman"]


def test_ids_beyond_the_vocabulary() -> None:
    tokenizer = _unigram()
    tokens = reader_of(tokenizer)("text", [len(tokenizer) + 7], [True])
    assert tokens.texts == (str(len(tokenizer) + 7),) and tokens.words[0].text == "\ufffd"


def test_whole_words() -> None:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "two": 1, "dogs": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    tokens = _read(tokenizer, "two black dogs")[1]
    assert [word.text for word in tokens.words] == ["two", "\ufffd", "dogs"]


def test_bytes() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    ids, tokens = _read(tokenizer, "two für 你")
    assert [word.text for word in tokens.words] == ["two", "für", "你"]
    assert len(ids) == len("two für 你".encode())


def _cost(read: object, ids: Sequence[int]) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        read("text", ids, [True] * len(ids))
        times.append(time.process_time() - start)
    return min(times)


def test_time_is_linear() -> None:
    tokenizer = _byte_level()
    read = reader_of(tokenizer)
    ids = tokenizer(" ".join(TEXTS), add_special_tokens=False)["input_ids"] * 20
    short, long = _cost(read, ids), _cost(read, ids * 8)
    assert long < 32 * short  # 64 times if it were quadratic
