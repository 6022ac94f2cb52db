import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import group_by_words, split_words
from regard.errors import ArgumentError

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    alphabet="a1.,'-$ \t二、カーﾞ한\u0301\ufffd（👩\u200d😀"
)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\u3000\xa0\u2028\x1c", []),
        ("Two dogs play.", ["Two", "dogs", "play", "."]),
        ('"Hi!" don\'t, 3.14 10:30', ['"', "Hi", "!", '"', "don't", ",", "3.14", "10:30"]),
        ("well-known (or not)...", ["well-known", "(", "or", "not", ")", "..."]),
        ("$5 C++ --a--b--", ["$", "5", "C", "++", "--", "a--b", "--"]),
        ("<unk> <bos>", ["<", "unk", ">", "<", "bos", ">"]),
        ("三月四日2024年", ["三", "月", "四", "日", "2024", "年"]),
        ("好，abc，de。“你”……", ["好", "，", "abc", "，", "de", "。", "“", "你", "”", "……"]),
        ("人々〇カー", ["人", "々", "〇", "カ", "ー"]),
        ("か\u3099x ﾎﾟ", ["か\u3099", "x", "ﾎﾟ"]),
        ("한국어 텍스트.", ["한국어", "텍스트", "."]),
        ("ein Übergrößenträger e\u0301te\u0301", ["ein", "Übergrößenträger", "e\u0301te\u0301"]),
        ("a\ufffd\ufffdb", ["a", "\ufffd", "\ufffd", "b"]),
        ("❤\ufe0f ok", ["❤\ufe0f", "ok"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_every_character_but_white_space_is_in_one_word(text: str) -> None:
    spans = split_words(text)
    covered = [position for start, end in spans for position in range(start, end)]
    assert covered == [position for position, character in enumerate(text) if not character.isspace()]
    assert all(start < end for start, end in spans)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_splitting_the_joined_words_changes_nothing(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


def test_surrogates_are_refused() -> None:
    with pytest.raises(ArgumentError, match="surrogate at character 2"):
        split_words("ab\ud800")


def test_group_by_words() -> None:
    tokens = [(0, 3), (3, 3), (3, 5), (6, 7), (6, 7), (7, 12), (12, 12)]
    assert group_by_words(tokens, [(0, 5), (6, 7), (7, 9), (10, 13), (14, 15)]) == [[0, 2], [3, 4], [5], [5], []]
    assert group_by_words([], [(0, 1)]) == [[]]
    assert group_by_words([(0, 1)], []) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=13), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5)), max_size=7))
def test_groups_are_the_overlaps(gaps: list[int], starts: list[tuple[int, int]]) -> None:
    edges = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    word_spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if a < b]
    token_spans = sorted((a, a + width) for a, width in starts)
    overlaps = [[i for i, (a, b) in enumerate(token_spans) if max(a, c) < min(b, d)] for c, d in word_spans]
    assert group_by_words(token_spans, word_spans) == overlaps
