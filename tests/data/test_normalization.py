import base64
import io
import unicodedata
from functools import cache

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import Tokenizer, group_by_words, split_words, train_tokenizer
from regard.data.character_map import CharacterMap
from regard.data.normalization import Normalizer, join_normalizer, rules_of, split_normalizer
from regard.errors import ArgumentError, CheckpointError

LINES = ["Two DOGS play; ﬁne ½ café.", "THE dogs don't play: café!", "ＡＢＣ １２３ 三月四日 three dogs"] * 3
PIECES = ["e\u0301", "ﬁ", "½", "Ａ", "¨", "\u0344", "ｶﾞ", "각", "İ", "ẞ", "Σ", "\u3000", "▁", " ", "a", "DOGS", "三月"]
PIECES += ["\u0323", "\u0302", "\u00a0", "a\u0323\u0302", "ﷺ", "\u200b", "x", "㎏", ".", "'"]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(st.sampled_from(PIECES)).map("".join)
KINDS = ("bpe", "unigram", "word", "char")


@cache
def made(kind: str, *rules: str) -> Tokenizer:
    size = 400 if kind in ("bpe", "unigram") else None
    return train_tokenizer(kind, LINES, size, normalize=rules)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_rules_are_those_of_unicode(text: str) -> None:
    # Python's tables may be older or newer than the library's: only assigned characters are compared.
    text = "".join(c for c in text if unicodedata.category(c) != "Cn")
    assert Normalizer(rules_of(["nfc"]))(text) == unicodedata.normalize("NFC", text)
    assert Normalizer(rules_of(["nfkc"]))(text) == unicodedata.normalize("NFKC", text)
    lower = "".join(character.lower() for character in text)
    assert Normalizer(rules_of(["lower"]))(text) == lower
    both = "".join(character.lower() for character in unicodedata.normalize("NFKC", text))
    assert Normalizer(rules_of(["nfkc", "lower"]))(text) == both


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_subwords_give_the_normalised_text_back(text: str) -> None:
    for kind in ("bpe", "unigram"):
        for rules in (("nfc",), ("nfkc", "lower")):
            tokenizer = made(kind, *rules)
            assert tokenizer.decode(tokenizer.encode(text)) == Normalizer(rules_of(rules))(text.strip())


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_text_spans_reach_every_word_of_the_text_as_given(text: str) -> None:
    for kind in KINDS:
        tokenizer = made(kind, "nfkc", "lower")
        spans = tokenizer.text_spans(text)
        assert len(spans) == len(tokenizer.encode(text))
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        assert all(group_by_words(spans, split_words(text)))


def test_text_spans_under_normalisation() -> None:
    text = "  e\u0301 ﬁne DOGS ½"
    for kind in KINDS:
        tokenizer = made(kind, "nfkc", "lower")
        found = [text[a:b] for a, b in tokenizer.text_spans(text)]
        groups = group_by_words(tokenizer.text_spans(text), split_words(text))
        assert len(groups) == 4
        assert found[groups[0][0]] == "e\u0301"
        assert all("ﬁ" in found[index] or found[index] in "ne" for index in groups[1])
        assert all(found[index] == "½" for index in groups[3])


def test_one_vocabulary_entry_for_what_is_the_same() -> None:
    for kind in KINDS:
        tokenizer = made(kind, "nfkc", "lower")
        assert tokenizer.encode("DOGS cafe\u0301 ﬁne") == tokenizer.encode("dogs café fine")
        assert made(kind).encode("DOGS cafe\u0301") != made(kind).encode("dogs café")


def test_no_character_becomes_the_space_mark() -> None:
    normalizer = Normalizer(rules_of(["nfkc", "lower"]))
    assert [c for c in map(chr, range(0x3000)) if "▁" in normalizer(c)] == ["▁"]
    assert made("bpe", "nfkc").decode(made("bpe", "nfkc").encode("ﬁ▁ﬁ ▁")) == "fi▁fi ▁"


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = made(kind, "nfkc", "lower")
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.kind, loaded.encode_batch(LINES)) == (kind, tokenizer.encode_batch(LINES))
    damaged = (tmp_path / "tokenizer.json").read_text().replace('"NFKC"', '"NFXC"')
    (tmp_path / "tokenizer.json").write_text(damaged)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: damaged: its normalizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="normalize: got 'nfd', expected 'nfc', 'nfkc' or 'lower'"):
        train_tokenizer("bpe", LINES, normalize=["nfd"])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="each rule once"):
        train_tokenizer("bpe", LINES, normalize=["lower", "lower"])
    for read in (made("word", "lower").encode, made("bpe", "lower").text_spans):
        with pytest.raises(ArgumentError, match="surrogate at character 1"):
            read("a\ud800")


def test_split_and_join() -> None:
    rest = {"type": "Lowercase"}
    for rules in ([], [{"type": "NFC"}, {"type": "NFKC"}]):
        for after in (None, rest):
            assert split_normalizer(join_normalizer(rules, after)) == (rules, after)
    assert split_normalizer(rest) == ([], rest)
    assert split_normalizer(None) == ([], None)


@cache
def character_map(name: str) -> tuple[CharacterMap, sentencepiece.SentencePieceNormalizer]:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        minloglevel=2,
        hard_vocab_limit=False,
        normalization_rule_name=name,
    )
    from sentencepiece import sentencepiece_model_pb2

    blob = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue()).normalizer_spec.precompiled_charsmap
    rule = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}
    return CharacterMap.of_rule(rule), sentencepiece.SentencePieceNormalizer(rule_name=name)


@settings(max_examples=300, deadline=None)
@given(TEXT, st.sampled_from(["nmt_nfkc", "nfkc_cf"]))
def test_character_maps_are_those_of_sentencepiece(text: str, name: str) -> None:
    own, theirs = character_map(name)
    found = own.apply(text)

    def words(some: str) -> list[str]:  # its normalizer also joins and removes spaces, and writes them as ▁
        return some.replace("▁", " ").split(" ")

    assert [w for w in words(found) if w] == [w for w in words(theirs.normalize(text)) if w]
    origins = own.origins(text)
    assert len(origins) == len(found)
    assert all(found[i] == text[a] for i, (a, b) in enumerate(origins) if found == text and b == a + 1)
    assert [start for start, _ in origins] == sorted(start for start, _ in origins)


def test_damaged_character_maps() -> None:
    for blob in (b"", b"\x08\x00\x00\x00abcd", b"\x03\x00\x00\x00abcd"):
        with pytest.raises(ValueError, match="damaged"):
            CharacterMap(blob)
    with pytest.raises(ValueError, match="not a text"):
        CharacterMap.of_rule({"type": "Precompiled"})
