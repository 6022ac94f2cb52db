import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from regard.data.example import CATEGORIES, RECIPE, ExampleCorpus, ExamplePair, example_pairs, write_example
from regard.data.words import split_words
from regard.errors import ArgumentError


@pytest.fixture(scope="module")
def corpus() -> ExampleCorpus:
    return example_pairs(seed=1)


def all_pairs(corpus: ExampleCorpus) -> tuple[ExamplePair, ...]:
    return corpus.train + corpus.valid + corpus.test


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def read_links(pair: ExamplePair) -> set[tuple[str, str]]:
    """The links as words; the words of these sentences are all different."""
    source, target = words(pair.source), words(pair.target)
    return {(source[i], target[j]) for i, j in pair.links}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_sizes_and_shares(corpus: ExampleCorpus) -> None:
    assert Counter(pair.category for pair in corpus.train) == dict.fromkeys(CATEGORIES, 2000) | {"idiom": 400}
    for part in (corpus.valid, corpus.test):
        assert Counter(pair.category for pair in part) == dict.fromkeys(CATEGORIES, 100)
    distinct = {pair.source for pair in corpus.train}
    assert len(distinct) == 12_016


def test_never_say_never_is_learnt_and_not_asked(corpus: ExampleCorpus) -> None:
    idiom = [pair for pair in corpus.train if pair.source == "never say never"]
    assert len(idiom) == 25
    assert {pair.target for pair in idiom} == {"永不言弃"}
    idioms = {pair.source for pair in corpus.train if pair.category == "idiom"}
    assert not idioms & {pair.source for pair in corpus.valid + corpus.test}


def test_one_translation_for_each_source(corpus: ExampleCorpus) -> None:
    translations: dict[str, str] = {}
    for pair in all_pairs(corpus):
        assert translations.setdefault(pair.source, pair.target) == pair.target
    for part in (corpus.valid, corpus.test):
        assert len({pair.source for pair in part}) == len(part)


@pytest.mark.parametrize("seed", [1, 7])
def test_parts_are_disjoint_by_value(seed: int) -> None:
    corpus = example_pairs(seed)
    parts = [{(pair.category, pair.value) for pair in part} for part in (corpus.train, corpus.valid, corpus.test)]
    train, valid, test = parts
    assert not train & valid and not train & test and not valid & test
    assert len(valid) == len(corpus.valid) and len(test) == len(corpus.test)
    # in the text too, without trusting `value`
    sources = [{pair.source for pair in part} for part in (corpus.train, corpus.valid, corpus.test)]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]


def test_numbers_and_dates_of_the_test_part_are_new_in_the_text(corpus: ExampleCorpus) -> None:
    def said(pair: ExamplePair) -> str:
        """What is left of a date or telephone number in Chinese, without its sentence."""
        kept = "零一二三四五六七八九十月日年星期点半刻差"
        runs = "".join(character if character in kept else " " for character in pair.target).split()
        return max(runs, key=len)

    for category in ("date", "phone"):
        known = {said(pair) for pair in corpus.train if pair.category == category}
        for pair in corpus.valid + corpus.test:
            assert pair.category != category or said(pair) not in known, pair


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


# One sentence of each category with its links, by hand: English words, then the characters each is linked to.
BY_HAND = {
    "date": "see:见 Friday:星期五 third:三日 May:五月",
    "weekday": "there:- is:有 concert:音乐会 next:下个 Friday:星期五 evening:晚上",
    "time": "train:火车 leaves:出发 quarter:一刻 to:差 seven:七点",
    "price": "this:这 book:本书 costs:要 twelve:十二 yuan:元 five:五 jiao:角",
}


def test_writes_the_files(tmp_path: Path, corpus: ExampleCorpus) -> None:
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
    assert "{" not in readme and "12400" in readme and "CC0" in readme


def test_same_content_may_be_there_and_other_content_is_refused(tmp_path: Path) -> None:
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


def test_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    digests = set()
    for hash_seed in ("0", "101"):
        directory = tmp_path / hash_seed
        program = f"from pathlib import Path; from regard.data.example import write_example as w; w(Path({str(directory)!r}))"
        subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
        files = sorted(contents(directory).items())
        digests.add(hashlib.sha256(b"".join(name.encode() + text for name, text in files)).hexdigest())
    assert len(digests) == 1


def test_seeds_differ(corpus: ExampleCorpus) -> None:
    assert example_pairs(2).test != corpus.test
