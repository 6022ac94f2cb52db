import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from regard.data.example import CATEGORIES, RECIPE, ExampleCorpus, ExamplePair, example_pairs, folder, write_example
from regard.data.words import split_words
from regard.errors import ArgumentError


@pytest.fixture(scope="module")
def corpus() -> ExampleCorpus:
    return example_pairs(seed=1)


def all_pairs(corpus: ExampleCorpus) -> tuple[ExamplePair, ...]:
    return corpus.train + corpus.valid + corpus.test


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def spell_links(pair: ExamplePair) -> str:
    """Each English word with the characters that it is linked to, in order."""
    source, target = words(pair.source), words(pair.target)
    linked = ["".join(target[j] for k, j in pair.links if k == i) for i in range(len(source))]
    return " ".join(f"{name}:{characters or '-'}" for name, characters in zip(source, linked, strict=True))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_sizes_and_shares(corpus: ExampleCorpus) -> None:
    assert Counter(pair.category for pair in corpus.train) == dict.fromkeys(CATEGORIES, 1600) | {
        "phone": 4000,
        "idiom": 640,
    }
    for part in (corpus.valid, corpus.test):
        assert Counter(pair.category for pair in part) == dict.fromkeys(CATEGORIES, 100)
    distinct = {pair.source for pair in corpus.train}
    assert len(distinct) == 12_016


def test_never_say_never_is_learnt_and_not_asked(corpus: ExampleCorpus) -> None:
    idiom = [pair for pair in corpus.train if pair.source == "never say never"]
    assert len(idiom) == 40
    assert {pair.target for pair in idiom} == {"永不言弃"}
    idioms = {pair.source for pair in corpus.train if pair.category == "idiom"}
    assert not idioms & {pair.source for pair in corpus.valid + corpus.test}


def test_one_translation_for_each_source(corpus: ExampleCorpus) -> None:
    translations: dict[str, str] = {}
    for pair in all_pairs(corpus):
        assert translations.setdefault(pair.source, pair.target) == pair.target
    for part in (corpus.valid, corpus.test):
        assert len({pair.source for pair in part}) == len(part)


def test_parts_are_disjoint_by_value(corpus: ExampleCorpus) -> None:
    parts = [{(pair.category, pair.value) for pair in part} for part in (corpus.train, corpus.valid, corpus.test)]
    train, valid, test = parts
    assert not train & valid and not train & test and not valid & test
    assert len(valid) == len(corpus.valid) and len(test) == len(corpus.test)
    # in the text too, without trusting `value`
    sources = [{pair.source for pair in part} for part in (corpus.train, corpus.valid, corpus.test)]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]


def test_days_and_telephone_numbers_of_the_held_out_parts_are_new_in_the_text(corpus: ExampleCorpus) -> None:
    # read from the Chinese text, without trusting `value`
    patterns = {
        "date": r"[一二三四五六七八九十]+月[一二三四五六七八九十]+日星期[一二三四五六日]"
        r"|[一二三四五六七八九零]{4}年[一二三四五六七八九十]+月[一二三四五六七八九十]+日",
        "phone": r"[零一二三四五六七八九]{6}",
    }
    for category, pattern in patterns.items():
        known = {re.findall(pattern, pair.target)[0] for pair in corpus.train if pair.category == category}
        for pair in corpus.valid + corpus.test:
            if pair.category == category:
                assert re.findall(pattern, pair.target)[0] not in known, pair


def test_every_word_of_the_held_out_parts_is_in_training(corpus: ExampleCorpus) -> None:
    seen = Counter(part for pair in corpus.train for part in (*words(pair.source), *pair.target))
    for pair in corpus.valid + corpus.test:
        for part in (*words(pair.source), *pair.target):
            assert seen[part] >= 8, (part, pair.source)


def test_links_are_of_words_as_split_words_makes_them(corpus: ExampleCorpus) -> None:
    for pair in all_pairs(corpus):
        source, target = words(pair.source), words(pair.target)
        assert target == list(pair.target)
        assert all(0 <= i < len(source) and 0 <= j < len(target) for i, j in pair.links)
        assert list(pair.links) == sorted(set(pair.links))
        if "?" in pair.source:
            mark = next(i for i, name in enumerate(source) if name == "?")
            assert (mark, target.index("？")) in pair.links and pair.source.endswith("?")


def test_every_character_is_linked_outside_the_idioms(corpus: ExampleCorpus) -> None:
    for pair in all_pairs(corpus):
        if pair.category != "idiom":
            linked = {j for _, j in pair.links}
            missing = {pair.target[j] for j in range(len(pair.target)) if j not in linked}
            assert missing <= {"零"}, pair  # 零 of 两万零三百 and 零 that English skips


# One sentence of each category and its links, worked out by hand.
BY_HAND = [
    (
        "the meeting is on Tuesday the third of June",
        "会议在六月三日星期二举行",
        "the:- meeting:会议 is:举行 on:在 Tuesday:星期二 the:- third:三日 of:- June:六月",
    ),
    (
        "does she go swimming every Saturday?",
        "她每个星期六都去游泳吗？",
        "does:- she:她 go:去 swimming:游泳 every:每个都 Saturday:星期六 ?:吗？",
    ),
    (
        "the meeting starts at ten to seven in the morning",
        "会议上午差十分七点开始",
        "the:- meeting:会议 starts:开始 at:- ten:十分 to:差 seven:七点 in:- the:- morning:上午",
    ),
    (
        "the price of the shirt is two hundred and five yuan",
        "衬衫的价格是二百零五元",
        "the:- price:价格 of:的 the:- shirt:衬衫 is:是 two:二 hundred:百 and:零 five:五 yuan:元",
    ),
    (
        "please give me ten pens and one ticket",
        "请给我十支笔和一张票",
        "please:请 give:给 me:我 ten:十 pens:支笔 and:和 one:一 ticket:张票",
    ),
    (
        "please call me on double eight seven three five nine",
        "请拨打八八七三五九找我",
        "please:请 call:拨打找 me:我 on:- double:八 eight:八八 seven:七 three:三 five:五 nine:九",
    ),
    ("time is money", "时间就是金钱", "time:时间 is:就是 money:金钱"),
]


@pytest.mark.parametrize(("source", "target", "links"), BY_HAND)
def test_links_by_hand(corpus: ExampleCorpus, source: str, target: str, links: str) -> None:
    pair = next(pair for pair in all_pairs(corpus) if pair.source == source)
    assert pair.target == target
    assert spell_links(pair) == links


def test_writes_the_files(tmp_path: Path, corpus: ExampleCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "example_pairs", lambda seed: corpus)
    directory = tmp_path / "new" / "example"
    write_example(directory)
    names = {f"{part}.{kind}" for part in ("train", "valid", "test") for kind in ("en", "zh", "align")}
    assert set(contents(directory)) == names | {"test.category", "README.md", "recipe.toml"}
    for part, pairs in (("train", corpus.train), ("valid", corpus.valid), ("test", corpus.test)):
        lines = {kind: (directory / f"{part}.{kind}").read_text("utf-8").split("\n") for kind in ("en", "zh", "align")}
        for kind, expected in (
            ("en", [pair.source for pair in pairs]),
            ("zh", [pair.target for pair in pairs]),
            ("align", [" ".join(f"{i}-{j}" for i, j in pair.links) for pair in pairs]),
        ):
            assert lines[kind] == [*expected, ""]
    assert (directory / "test.category").read_text().split() == [pair.category for pair in corpus.test]
    assert (directory / "recipe.toml").read_text() == RECIPE
    readme = (directory / "README.md").read_text("utf-8")
    assert "{" not in readme and "12640" in readme and "CC0" in readme


def test_same_content_may_be_there_and_other_content_is_refused(
    tmp_path: Path, corpus: ExampleCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "example_pairs", lambda seed: corpus)
    write_example(tmp_path)
    (tmp_path / "valid.zh").unlink()
    before = contents(tmp_path)
    write_example(tmp_path)
    assert set(contents(tmp_path)) == {*before, "valid.zh"}
    (tmp_path / "test.zh").write_text("mine\n")
    (tmp_path / "README.md").unlink()
    before = contents(tmp_path)
    with pytest.raises(ArgumentError, match=r"test\.zh"):
        write_example(tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="file"):
        write_example(tmp_path / "file")


def test_same_pairs_whatever_the_hash_seed(corpus: ExampleCorpus) -> None:
    program = (
        "import hashlib; from regard.data.example import example_pairs; "
        "print(hashlib.sha256(repr(example_pairs(1)).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "101"}
    run = subprocess.run([sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == hashlib.sha256(repr(corpus).encode()).hexdigest()
    assert example_pairs(1) == corpus


def test_another_seed_gives_another_corpus_of_the_same_kind(corpus: ExampleCorpus) -> None:
    other = example_pairs(7)
    assert other.test != corpus.test
    assert [len(other.train), len(other.valid), len(other.test)] == [12_640, 600, 600]
    known = {(pair.category, pair.value) for pair in other.train}
    assert not known & {(pair.category, pair.value) for pair in other.valid + other.test}
