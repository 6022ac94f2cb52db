import json
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from data.given_examples import ENGLISH, MAKERS, library, sentencepiece_model, write
from regard.data import Tokenizer, group_by_words, split_words, train_tokenizer
from regard.data.given_tokenizers import read_tokenizer
from regard.errors import CheckpointError, DataError, MissingExtraError, UnsupportedError

PIECES = [
    "▁",
    " ",
    "  ",
    "a",
    "the",
    "dogs",
    "e\u0301",
    "ﬁ",
    "龘",
    "😀",
    "<s>",
    "<unk>",
    "</s>",
    "[CLS]",
    "<0x41>",
    "...",
]
PIECES += [
    "aaaa",
    "hehehe",
    "\u3000",
    "\t",
    "\n",
    "\x00",
    "ﾊﾟ",
    "각",
    "１",
    "½",
    "--",
    "ä",
    "\u0344",
    "\u200b",
    "¨",
    "Two",
]
PIECES += ["<|endoftext|>", "<|begin_of_text|>", "<tool>", "<pad>", "[MASK]", "'"]
# U+10FFFF, which is no character, is the one that becomes another.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\U0010ffff")
TEXT = st.text(CHARACTERS) | st.lists(st.sampled_from(PIECES)).map("".join)
ALL = pytest.mark.parametrize("name", list(MAKERS))


@cache
def made(name: str, *rules: str) -> Tokenizer:
    with TemporaryDirectory() as folder:
        return read_tokenizer(write(Path(folder), name), rules)  # type: ignore[arg-type]


@cache
def from_model(**options: Any) -> Tokenizer:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.model"
        path.write_bytes(sentencepiece_model(**options))
        return read_tokenizer(path)


def plain(name: str) -> tokenizers.Tokenizer:
    """The library's tokenizer without special tokens to be found in a text."""
    frame = json.loads(library(name).to_str())
    frame["added_tokens"] = [token for token in frame["added_tokens"] if not token["special"]]
    frame["truncation"] = frame["padding"] = None
    return tokenizers.Tokenizer.from_str(json.dumps(frame))


@ALL
def test_ids_and_texts_are_those_of_the_library(name: str) -> None:
    tokenizer, theirs = made(name), library(name)
    for text in ENGLISH[:5]:
        ids = tokenizer.encode(text)
        assert tokenizer.kind == "given"
        expected = plain(name).encode(text, add_special_tokens=False).ids
        assert ids == expected
        assert tokenizer.decode(ids) == theirs.decode(ids).strip(" ")
        assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id, tokenizer.pad_id]) == tokenizer.decode(ids)
        assert len(tokenizer.pieces(ids)) == len(ids)


def test_special_tokens_are_found_or_added() -> None:
    expected = {
        "gpt2": ("<pad>", "<bos>", "<|endoftext|>", "<unk>"),
        "roberta": ("<pad>", "<s>", "</s>", "<unk>"),
        "llama3": ("<pad>", "<|begin_of_text|>", "<|end_of_text|>", "<unk>"),
        "wordpiece": ("[PAD]", "[CLS]", "[SEP]", "[UNK]"),
        "unigram": ("<pad>", "<bos>", "</s>", "<unk>"),
    }
    for name, names in expected.items():
        tokenizer, size = made(name), library(name).get_vocab_size()
        ids = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id]
        assert tuple(tokenizer.pieces(ids)) == names
        added = [index for index in ids if index >= size]
        assert tokenizer.vocab_size == size + len(added)
        assert len(tokenizer.notes) == len(added)
        assert added == list(range(size, size + len(added)))
        for index in ids:
            known = library(name).token_to_id(tokenizer.pieces([index])[0])
            assert known == index or (known is None and index in added)
    assert "gpt2.json has no token for bos: <bos> is added with the id" in made("gpt2").notes[1]


@settings(max_examples=200, deadline=None)
@given(TEXT)
def test_special_tokens_are_never_found_in_a_text(text: str) -> None:
    for name in MAKERS:
        tokenizer = made(name)
        ids = tokenizer.encode(text)
        specials = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}
        specials |= {t["id"] for t in json.loads(library(name).to_str())["added_tokens"] if t["special"]}
        if name in ("gpt2", "roberta", "llama3"):
            specials.add(tokenizer.unk_id)
            assert tokenizer.decode(ids) == text.strip()
        else:
            specials.discard(tokenizer.unk_id)
        assert not specials & set(ids)


def test_names_of_special_tokens_are_text() -> None:
    for text in ("<s>", "</s>", "<pad>", "<|endoftext|>", "<|begin_of_text|>", "a <unk> b", "<mask>"):
        for name in ("gpt2", "roberta", "llama3"):
            assert made(name).decode(made(name).encode(text)) == text
    assert made("wordpiece").pieces(made("wordpiece").encode("[SEP]")) != ["[SEP]"]
    assert made("llama3").pieces(made("llama3").encode("a<tool>b"))[1:2] == ["<tool>"]  # this one isn't special
    assert made("gpt2").encode("a\U0010ffff") == made("gpt2").encode("a\ufffd")


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_spans(text: str) -> None:
    for name in MAKERS:
        tokenizer = made(name)
        ids = tokenizer.encode(text)
        for found, of in ((tokenizer.spans(ids), tokenizer.decode(ids)), (tokenizer.text_spans(text), text)):
            assert len(found) == len(ids)
            assert all(0 <= start <= end <= len(of) for start, end in found)
        if name != "wordpiece":  # BERT removes control characters
            assert all(group_by_words(tokenizer.text_spans(text), split_words(text)))


def test_spans_of_words() -> None:
    text = "  The dogs 龘 läuft"
    for name in MAKERS:
        tokenizer = made(name)
        spans = tokenizer.text_spans(text)
        words = split_words(text)
        for (start, end), group in zip(words, group_by_words(spans, words), strict=True):
            assert (spans[group[0]][0], spans[group[-1]][1]) == (start, end)
    ids = made("wordpiece").encode("the dogs, sleeping")
    decoded = made("wordpiece").decode(ids)
    assert decoded == "the dogs, sleeping"
    assert "".join(decoded[a:b] for a, b in made("wordpiece").spans(ids)) == "thedogs,sleeping"


def test_pieces_for_display() -> None:
    assert "".join(made("gpt2").pieces(made("gpt2").encode("the dogs"))) == "the▁dogs"
    assert made("gpt2").pieces(made("gpt2").encode("é")) == ["<0xC3>", "<0xA9>"]
    assert "".join(made("unigram").pieces(made("unigram").encode("the dogs"))) == "▁the▁dogs"


@ALL
def test_normalisation_comes_first(name: str) -> None:
    lower = made(name, "nfkc", "lower")
    assert lower.encode("The ＤＯＧＳ ﬁ") == made(name).encode("the dogs fi")
    assert [("The ＤＯＧＳ")[a:b] for a, b in lower.text_spans("The ＤＯＧＳ")][-1] in (
        "ＤＯＧＳ",
        "Ｓ",
        "ＧＳ",
        "ＯＧＳ",
    )


def all_given() -> list[Tokenizer]:
    models = [from_model(model_type=kind, byte_fallback=fall) for kind in ("bpe", "unigram") for fall in (False, True)]
    return [*(made(name) for name in MAKERS), made("unigram", "nfkc", "lower"), made("wordpiece", "nfc"), *models]


def test_save_and_load(tmp_path: Path) -> None:
    texts = [*ENGLISH[:5], *PIECES, "".join(PIECES)]
    for tokenizer in all_given():
        path = tmp_path / "tokenizer.json"
        tokenizer.save(path)
        for again in (Tokenizer.load(path), read_tokenizer(path)):
            assert again.kind == "given"
            assert again.notes == ()
            assert again.vocab_size == tokenizer.vocab_size
            assert (again.pad_id, again.bos_id) == (tokenizer.pad_id, tokenizer.bos_id)
            assert again.encode_batch(texts) == tokenizer.encode_batch(texts)
            again.save(tmp_path / "again.json")
            assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
        assert tokenizers.Tokenizer.from_file(str(path)).get_vocab_size() == tokenizer.vocab_size


def test_tokenizers_of_this_package_stay_what_they_are(tmp_path: Path) -> None:
    for kind in ("bpe", "unigram", "word", "char"):
        trained = train_tokenizer(kind, ENGLISH, 400)
        trained.save(tmp_path / "tokenizer.json")
        again = read_tokenizer(tmp_path / "tokenizer.json")
        assert (again.kind, again.vocab_size, again.notes) == (kind, trained.vocab_size, ())
        assert again.encode_batch(ENGLISH) == trained.encode_batch(ENGLISH)
        lower = read_tokenizer(tmp_path / "tokenizer.json", ["lower"])
        assert lower.kind == kind
        assert lower.encode("THE Dogs") == trained.encode("the dogs")


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nfkc_cf", "remove_extra_whitespaces": False},
        {"split_by_whitespace": False},
        {"add_dummy_prefix": False, "byte_fallback": True},
        {"pad_id": 3, "bos_id": -1, "eos_id": 2, "unk_id": 0, "user_defined_symbols": ""},
    ],
    ids=str,
)
def test_ids_are_those_of_sentencepiece(model_type: str, options: dict[str, Any]) -> None:
    options = {"model_type": model_type, **options}
    tokenizer = from_model(**options)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(**options))

    def score(ids: list[int]) -> float:
        return sum(theirs.get_score(index) for index in ids)

    def check(text: str) -> None:
        own, expected = tokenizer.encode(text), theirs.encode(text.strip())
        if model_type == "bpe" or own == expected:
            assert own == expected
        else:  # two ways to cut it, and as good to seven digits
            assert theirs.decode(own) == theirs.decode(expected)
            assert score(own) == pytest.approx(score(expected), rel=1e-6)

    settings(max_examples=150, deadline=None)(given(TEXT)(check))()
    for text in ENGLISH[:5]:
        check(text)
    assert tokenizer.decode(tokenizer.encode(ENGLISH[0])).casefold() == ENGLISH[0].casefold()
    assert all(group_by_words(tokenizer.text_spans(ENGLISH[4]), split_words(ENGLISH[4])))
    assert tokenizer.pieces([tokenizer.unk_id]) == ["<unk>"]
    for role, index in (("pad", theirs.pad_id()), ("bos", theirs.bos_id()), ("eos", theirs.eos_id())):
        own_id = {"pad": tokenizer.pad_id, "bos": tokenizer.bos_id, "eos": tokenizer.eos_id}[role]
        assert own_id == index if index >= 0 else own_id >= theirs.get_piece_size()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "char"}, "a model of words or characters"),
        ({"model_type": "bpe", "user_defined_symbols": "<x>"}, "symbols defined by the user"),
        ({"model_type": "bpe", "treat_whitespace_as_suffix": True}, "white space as a suffix"),
    ],
)
def test_sentencepiece_models_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=f"some.model: this SentencePiece model has {message}, which is not"):
        from_model(**options)


def test_sentencepiece_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.model").write_bytes(sentencepiece_model(model_type="bpe"))
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match=r"some\.model: .*regard\[sentencepiece\]"):
        read_tokenizer(tmp_path / "some.model")


def test_damaged_and_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    good = library("gpt2").to_str()
    frame = json.loads(good)
    model = sentencepiece_model(model_type="bpe")
    wrong = {
        "half": good[: len(good) // 2].encode(),
        "empty": b"",
        "list": b"[1, 2]",
        "no model": b"{}",
        "kind": json.dumps(frame | {"model": {"type": "Neural"}}).encode(),
        "vocabulary": json.dumps(
            frame | {"model": frame["model"] | {"vocab": {"a": 0, "b": 7}, "merges": []}}
        ).encode(),
        "half a model": model[: len(model) // 2],
        "text": b"to be or not to be",
        "bytes": b"{\xff\xfe}",
    }
    for content in wrong.values():
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.json: "):
            read_tokenizer(path)
    with pytest.raises(DataError, match=r"nowhere\.json: cannot read the tokenizer: No such file"):
        read_tokenizer(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="cannot read the tokenizer: Is a directory"):
        read_tokenizer(tmp_path)
    path.write_text(good)
    with pytest.raises(CheckpointError, match=r"no special token for pad, bos, unk; .* opened with read_tokenizer"):
        Tokenizer.load(path)
    for tokens in (
        3,
        [3],
        [{"id": 99999, "content": "x", "special": True}],
        [{"id": 3, "content": "x", "special": True}],
    ):
        path.write_text(json.dumps(frame | {"added_tokens": tokens}))
        with pytest.raises(CheckpointError, match="added"):
            Tokenizer.load(path)


def test_decoders_that_are_refused(tmp_path: Path) -> None:
    frame = json.loads(library("unigram").to_str())
    frame["decoder"] = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
    (tmp_path / "x.json").write_text(json.dumps(frame))
    with pytest.raises(UnsupportedError, match=r"x\.json: its decoder CTC is not supported"):
        read_tokenizer(tmp_path / "x.json")


def test_merges_that_make_a_special_token_are_not_done(tmp_path: Path) -> None:
    vocabulary = {"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4, "a": 5}
    merges = [["<", "s"], ["<s", ">"]]
    frame = {"version": "1.0", "added_tokens": [], "decoder": {"type": "Fuse"}}
    frame |= {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(frame))
    ordinary = read_tokenizer(path)  # here <s> is a piece like others
    assert ordinary.encode("a<s>") == [5, 4]
    assert ordinary.pieces([ordinary.bos_id]) == ["<bos>"]
    special = {"id": 4, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    path.write_text(json.dumps(frame | {"added_tokens": [special | {"special": True}]}))
    given_special = read_tokenizer(path)
    assert given_special.bos_id == 4
    assert given_special.encode("a<s>") == [5, 3, 2]
    assert given_special.decode([5, 3, 2, 4]) == "a<s>"
