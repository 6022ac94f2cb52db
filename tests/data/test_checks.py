"""What `regard check-data` finds, on made-up corpora with one thing wrong in each."""

import random
import tracemalloc
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import Block, PairReader, train_tokenizer
from regard.data.checks import CleanCopy, Finding, Part, Report, Severity, check, cleaned
from regard.data.checks.alignment import Shift, correlation, find_shifts, levels
from regard.data.checks.blocks import CHARACTERS, Lines, text_blocks
from regard.data.checks.characters import DAMAGED, INVISIBLE, flags, folded, scripts, visible
from regard.data.checks.contents import copies, damaged, invisible, other_numbers, without_words
from regard.data.checks.hashes import HashSet
from regard.data.checks.lengths import LengthRatio
from regard.data.checks.sampling import draw
from regard.errors import ArgumentError, DataError

Pairs = list[tuple[str, str]]

WORDS = {
    "English": "the of shadow river thing which where wooden three north sixth yellow whose by why wash how",
    "German": "der zwischen schatten fluss ding welche früher drei nord sechs gelb größe über wäsche mögen",
}


@dataclass(frozen=True)
class Memory(PairReader):
    """Pairs given in a test."""

    pairs: Sequence[tuple[str, str]]
    problems: tuple[tuple[int, str], ...] = ()
    ends: str | None = None

    @property
    def name(self) -> str:
        return "memory"

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def blocks(self) -> Iterator[Block]:
        for start in range(0, len(self.pairs), 1000):
            rows = self.pairs[start : start + 1000]
            problems = {index - start: text for index, text in self.problems if start <= index < start + 1000}
            lines = range(start + 1, start + 1 + len(rows))
            yield Block(lines, [row[0] for row in rows], [row[1] for row in rows], problems)
        if self.ends is not None:
            raise DataError(self.ends)


def corpus(count: int, seed: int = 1) -> Pairs:
    """Sentences of two made-up languages of one script, none twice; lengths go together as translations' do."""
    draw, sides = random.Random(seed), [words.split(" ") for words in WORDS.values()]
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        words = draw.randint(4, 20)
        source, target = (draw.choices(side, k=words + draw.randint(0, 1)) for side in sides)
        pairs[" ".join(source).capitalize() + "."] = " ".join(target).capitalize() + "."
    return list(pairs.items())


def han(pairs: Pairs) -> Pairs:
    """The same with a target in another script."""
    return [
        (source, "".join(chr(0x4E00 + sum(map(ord, word)) % 999) for word in target.split()) + "。")
        for source, target in pairs
    ]


def found(training: Pairs | PairReader, validation: Pairs | None = None, **options: object) -> dict[str, Finding]:
    """Findings by their names, those of the validation part with "valid " in front; but that there is none."""
    report = examine(training, validation, **options)
    found = {("valid " if one.part == "validation" else "") + one.name: one for one in report.findings}
    assert ("no-validation" in found) == (validation is None)
    found.pop("no-validation", None)
    return found


def examine(training: Pairs | PairReader, validation: Pairs | None = None, **options: object) -> Report:
    reader = training if isinstance(training, PairReader) else Memory(training)
    parts = [Part("training", reader)]
    if validation is not None:
        parts.append(Part("validation", Memory(validation), True, "valid"))
    return check(parts, **options)  # type: ignore[arg-type]


def lines_of(finding: Finding) -> list[int]:
    return [example.line for example in finding.examples]


PAIRS, VALID = corpus(1350)[:1200], corpus(1350)[1200:]


def test_a_good_corpus_has_no_finding() -> None:
    assert found(PAIRS, VALID) == {}
    assert found(han(PAIRS), han(VALID)) == {}


def test_findings_of_single_pairs() -> None:
    wrong = {
        10: ("", "leer"),
        20: ("A fine day", ""),
        30: ("the same text", "the same text"),
        40: ("The river \ufffd water", "Der Fluss und das Wasser"),
        50: ("The caf\u00c3\u00a9 is yellow", "Das Café ist gelb"),
        60: ("The\u200b river is yellow", "Der Fluss ist gelb"),
        70: ("12.5 < 13", "zwölf ist weniger als dreizehn"),
        80: ("See https://example.org/water", "Siehe https://example.org"),
        90: ("The river has 3 colours", "Der Fluss hat 4 Farben"),
        100: ("The river", "Der " + "große " * 60 + "Fluss"),
        110: ("why " * 600, "über " * 600),
    }
    pairs = PAIRS.copy()
    for line, pair in wrong.items():
        pairs[line - 1] = pair
    findings = found(pairs, VALID)
    assert {name: lines_of(one) for name, one in findings.items()} == {
        "empty": [10, 20],
        "copies": [30],
        "damaged": [40, 50],
        "invisible": [60],
        "no-words": [70],
        "numbers": [90],
        "lengths": [100],
        "long": [110],
    }
    assert all(one.count == len(one.examples) for one in findings.values())
    assert findings["invisible"].examples[0].text == "The⟨U+200B⟩ river is yellow │ Der Fluss ist gelb"
    assert findings["numbers"].examples[0].text == "3 │ 4"
    assert "1.1" in findings["lengths"].detail or "1.2" in findings["lengths"].detail


def test_no_more_examples_than_asked_for_but_all_are_counted() -> None:
    pairs = [("", "nichts") if index % 3 == 0 else pair for index, pair in enumerate(PAIRS)]
    finding = found(pairs, examples=2)["empty"]
    assert (finding.count, lines_of(finding)) == (400, [1, 4])
    assert found(pairs, examples=0)["empty"].examples == ()


def test_rows_with_a_problem_are_told_in_its_words() -> None:
    finding = found(Memory(PAIRS, problems=((6, "memory, line 7: not valid UTF-8"),)))["unreadable"]
    assert (finding.severity, finding.count) == (Severity.error, 1)
    assert (finding.examples[0].line, finding.examples[0].text) == (7, "memory, line 7: not valid UTF-8")


def test_copies_everywhere_are_an_error() -> None:
    assert found([(source, source) for source, _ in PAIRS])["copies"].severity is Severity.error
    few = [(source, source) if index < 500 else (source, target) for index, (source, target) in enumerate(PAIRS)]
    assert found(few)["copies"].severity is Severity.warning


def test_nothing_that_can_be_used() -> None:
    assert found([("a", "")] * 7)["nothing"].severity is Severity.error
    with pytest.raises(DataError, match="memory: there is no pair in it"):
        found([])


def test_repetitions() -> None:
    pairs = [*PAIRS, ("In 1 river.", "In 2 Flüssen.")]
    source, target = pairs[-1]
    again = [(source, target), (source, "Eine andere Größe."), ("in 7 RIVER", "in 2 Flüssen!"), (source, target)]
    findings = found(pairs + again)
    assert lines_of(findings["duplicates"]) == [1202, 1205]
    assert lines_of(findings["several-targets"]) == [1203]
    assert lines_of(findings["near-duplicates"]) == [1204]


def test_repetitions_are_found_across_parts() -> None:
    parts = [Part("training 1", Memory(PAIRS)), Part("training 2", Memory(PAIRS[:300]))]
    findings = [one for one in check(parts).findings if one.name == "duplicates"]
    assert [(one.part, one.count) for one in findings] == [("training 2", 300)]


def test_overlap_of_training_and_validation() -> None:
    valid = [*VALID[:100], *PAIRS[500:520], (PAIRS[3][0], "Etwas anderes."), *VALID[100:]]
    findings = found(PAIRS, valid)
    overlap, sources = findings["valid overlap"], findings["valid overlap-sources"]
    assert (overlap.severity, overlap.count) == (Severity.warning, 20)
    assert lines_of(overlap) == [101, 102, 103, 104, 105]
    assert overlap.examples[0].text.startswith(f"also in training, line 501: {PAIRS[500][0][:50]}")
    assert (sources.count, lines_of(sources)) == (1, [121])
    assert "training, line 4:" in sources.examples[0].text


def test_validation_that_is_all_in_training_is_an_error() -> None:
    assert found(PAIRS, PAIRS[200:400])["valid overlap"].severity is Severity.error


@pytest.mark.parametrize("pairs", [PAIRS, han(PAIRS)], ids=["one script", "two scripts"])
def test_single_exchanged_pairs(pairs: Pairs) -> None:
    chosen = [index for index in range(100, 1000, 50) if len(pairs[index][0]) > 60]
    mixed = pairs.copy()
    for index in chosen:
        mixed[index] = (pairs[index][1], pairs[index][0])
    finding = found(mixed, examples=100)["swapped"]
    assert lines_of(finding) == [index + 1 for index in chosen] and len(chosen) > 5


@pytest.mark.parametrize("change", [lambda pairs: pairs, han], ids=["one script", "two scripts"])
def test_an_exchanged_part(change) -> None:
    findings = found(change(PAIRS), [(target, source) for source, target in change(VALID)])
    assert findings["valid swapped-part"].severity is Severity.error
    assert "valid swapped" not in findings  # said once, not for every line


def test_sides_in_one_language_are_not_told_apart() -> None:
    sentences = [source for source, _ in corpus(2000)]
    findings = found(list(zip(sentences[:1000], sentences[1000:], strict=True)))
    assert "unchecked" in findings and "swapped" not in findings


def test_a_side_in_the_other_script() -> None:
    pairs = han(PAIRS)
    pairs[41] = (pairs[41][0], "this was not translated")
    pairs[42] = (pairs[42][0], "OK。")
    assert lines_of(found(pairs)["script"]) == [42]


def test_japanese_lines_in_kanji_alone_are_no_chinese() -> None:
    draw = random.Random(5)

    def some(letters: str, count: int) -> str:
        return "".join(draw.choices(letters, k=count))

    kanji, kana = "今日東京大学新聞社会議員選挙", "のはをにがでとしていますから"
    chinese = [some(kanji + "这那个们说话时", draw.randint(6, 12)) for _ in range(600)]
    japanese = ["".join(some(kanji, 2) + some(kana, 3) for _ in range(draw.randint(1, 3))) for _ in range(600)]
    japanese[::10] = [some(kanji, 6) for _ in japanese[::10]]
    assert "script" not in found(list(zip(chinese, japanese, strict=True)))
    chinese[41] = "これはしんぶんです"  # while Chinese is never in kana
    japanese[41] = "これはしんぶんではない"
    for pairs in (zip(chinese, japanese, strict=True), zip(japanese, chinese, strict=True)):
        assert lines_of(found(list(pairs))["script"]) == [42]


def test_many_lines_that_were_not_translated_are_no_mixture_of_scripts() -> None:
    pairs = [
        (source, source + " x" if index % 16 == 0 else target) for index, (source, target) in enumerate(han(PAIRS))
    ]
    assert found(pairs)["script"].count == 75


def test_shifted_by_a_lost_line() -> None:
    pairs = corpus(3000)
    targets = [target for _, target in pairs]
    del targets[1500]
    shifted = list(zip([source for source, _ in pairs][:-1], targets, strict=True))
    finding = found(Memory(shifted, ends="a has 3000 lines but b has 2999 lines"))
    assert {"shifted", "incomplete"} <= set(finding)
    assert finding["incomplete"].detail == "a has 3000 lines but b has 2999 lines"
    shift = finding["shifted"]
    assert shift.severity is Severity.error and abs(shift.examples[0].line - 1501) <= 15
    assert "to the end, source line n goes with the target one line before n" in shift.examples[0].text


def test_shifted_by_an_empty_line_until_one_is_missing() -> None:
    pairs = corpus(3000)
    targets = [target for _, target in pairs]
    targets.insert(700, "")
    del targets[2000]
    finding = found(list(zip([source for source, _ in pairs], targets, strict=True)))["shifted"]
    assert len(finding.examples) == 1 and abs(finding.examples[0].line - 701) <= 15
    assert "one line after n" in finding.examples[0].text and abs(finding.count - 1300) <= 30


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_the_place_of_a_shift_is_found(place: int, by: int, before: bool, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(10, 200, 2400)
    noise = np.random.default_rng(seed + 1).normal(0, 4, 2400).astype(int)
    other = np.maximum(lengths + noise, 1)
    source, target = levels(lengths), levels(other)
    assert find_shifts(source, target) == []
    gone = np.delete(levels(other), np.arange(place, place + by))
    rest = source[: len(gone)]
    shifts = find_shifts(gone, rest) if before else find_shifts(rest, gone)
    assert [shift.by for shift in shifts] == [by if before else -by]
    assert abs(shifts[0].first - place) <= 20 and shifts[0].last >= len(gone) - 20


def test_the_correlation_is_that_of_numpy_and_needs_no_memory() -> None:
    source = np.random.default_rng(2).integers(0, 256, 1_000_000).astype(np.uint8)
    target = source // 2 + np.random.default_rng(3).integers(0, 90, len(source)).astype(np.uint8)
    tracemalloc.start()
    value = correlation(source, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert value == pytest.approx(np.corrcoef(source, target)[0, 1], abs=1e-9) and 0.5 < value < 0.9
    assert peak < 2_000_000  # less than two bytes a row, however many rows
    assert correlation(source[:0], target[:0]) == correlation(source, np.zeros_like(source)) == 0


def test_no_more_shifts_than_asked_for() -> None:
    pairs = corpus(6000)
    sources, targets = (list(side) for side in zip(*pairs, strict=True))
    for place in (1000, 3500):  # two stretches of a thousand lines
        targets.insert(place, "Eine Zeile, die es nicht gibt.")
        del targets[place + 1001]
    shifted = list(zip(sources, targets, strict=True))
    both, one = (found(shifted, examples=most)["shifted"] for most in (5, 1))
    assert (len(both.examples), both.more, len(one.examples), one.more) == (2, 0, 1, 1)
    assert one.count == both.count > 1900 and found(shifted, examples=0)["shifted"].examples == ()


def test_lengths_without_any_relation_are_no_shift() -> None:
    random_levels = np.random.default_rng(0).integers(20, 90, (2, 30_000)).astype(np.uint8)
    assert find_shifts(*random_levels) == []
    same = np.full(5000, 60, np.uint8)
    assert find_shifts(same, same) == []
    mixed = [(source, PAIRS[(index * 7) % 1200][1]) for index, (source, _) in enumerate(PAIRS)]
    assert "unrelated" in found(mixed)


def test_shifts_go_on_over_the_border_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.data.checks.alignment.CHUNK", 1000)
    source = levels(np.random.default_rng(3).integers(10, 200, 5000))
    shifts = find_shifts(source[:-1], np.delete(source, 2500))
    assert len(shifts) == 1 and isinstance(shifts[0], Shift)
    assert abs(shifts[0].first - 2500) <= 5 and shifts[0].last >= 4990 and shifts[0].by == -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (str.lower, "source side: upper-case letters"),
        (lambda text: text.removesuffix("."), "source side: a punctuation mark at the end"),
        (lambda text: text.replace(".", " ."), "source side: a space before a comma or full stop"),
        (lambda text: text + "“", "source side: curly quotes"),
        (lambda text: unicodedata.normalize("NFD", text + "é"), "source side: characters in more pieces than needed"),
        (lambda text: "".join(map(chr, (0x430 + ord(one) % 32 for one in text))), "training is mostly in Latin script"),
    ],
)
def test_validation_that_is_written_differently(change, words: str) -> None:
    report = examine(PAIRS, [(change(source), target) for source, target in VALID])
    details = [one.detail for one in report.findings if one.name == "mismatch"]
    assert any(words in detail for detail in details) and not any("target side" in detail for detail in details)


def test_text_that_was_tokenised_before() -> None:
    findings = found([(source.replace(".", " . &quot;"), target) for source, target in PAIRS])
    assert "prepared" in findings and findings["prepared"].severity is Severity.note


def test_validation_that_the_tokenizer_does_not_fit() -> None:
    def make(pairs):
        tokenizer = train_tokenizer("bpe", [text for pair in pairs for text in pair], 400)
        return tokenizer, tokenizer

    assert "tokens" not in found(PAIRS, VALID, tokenizers=make)
    foreign = [(source, "".join(chr(0x16A0 + ord(one) % 60) for one in target)) for source, target in VALID]
    finding = found(PAIRS, foreign, tokenizers=make)["tokens"]
    assert finding.detail.startswith("target side: ")


def test_a_tokenizer_that_cannot_be_made_is_no_reason_to_stop() -> None:
    def make(pairs):
        raise ArgumentError("vocab_size: too small")

    assert "vocab_size: too small" in found(PAIRS, VALID, tokenizers=make)["unchecked"].detail


def test_very_long_is_what_training_leaves_out() -> None:
    def make(pairs):
        tokenizer = train_tokenizer("char", [text for pair in pairs for text in pair])
        return tokenizer, tokenizer

    finding = found(PAIRS, tokenizers=make, max_length=100)["long"]
    assert finding.count == sum(max(map(len, pair)) > 100 for pair in PAIRS)
    assert "about data.max_length = 100 tokens" in finding.detail


def test_parts_must_make_sense() -> None:
    with pytest.raises(ArgumentError, match="0 training and 1 validation"):
        check([Part("validation", Memory(PAIRS), True)])


def test_a_part_that_changes_between_the_readings() -> None:
    class Growing(Memory):
        def blocks(self) -> Iterator[Block]:
            yield from super().blocks()
            self.pairs.append(("one more", "noch eins"))  # type: ignore[attr-defined]

    with pytest.raises(DataError, match="changed while it was read"):
        found(Growing(PAIRS.copy()))


def test_a_cleaned_copy(tmp_path: Path) -> None:
    wrong: Pairs = [
        ("", "leer"),
        ("same", "same"),
        PAIRS[0],
        ("The\u200b river\u2028is\x07 yellow", "Der Fluss ist gelb"),
        ("The river", "Der " + "große " * 60 + "Fluss"),
        ("broken \ufffd", "kaputt"),
        VALID[7],
        ("\u200b", "nichts"),
    ]
    parts = [
        Part("training", Memory(PAIRS + wrong), suffixes=(".en", ".de")),
        Part("validation", Memory(VALID), True, "valid", (".en", ".de")),
    ]
    with CleanCopy(tmp_path / "clean", parts) as copy:
        report = check(parts, keep=copy.add)
        copy.finish(report)
    texts = {path.name: path.read_text("utf-8") for path in (tmp_path / "clean").iterdir()}
    assert sorted(texts) == ["report.json", "train.de", "train.en", "valid.de", "valid.en"]
    assert texts["train.en"].split("\n") == [source for source, _ in PAIRS] + ["The river is yellow", ""]
    assert texts["train.de"].split("\n") == [target for _, target in PAIRS] + ["Der Fluss ist gelb", ""]
    assert texts["valid.de"].split("\n") == [target for _, target in VALID] + [""]
    training = report.parts[0]
    dropped = {name: count for name, count in training.dropped.items() if count}
    assert dropped == {"empty": 2, "copies": 1, "duplicates": 1, "lengths": 1, "damaged": 1, "overlap": 1}
    assert (training.rows, training.kept) == (1208, 1201)
    assert list(tmp_path.iterdir()) == [tmp_path / "clean"]


def test_a_copy_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    parts = [Part("training", Memory(PAIRS))]
    with pytest.raises(KeyboardInterrupt), CleanCopy(tmp_path / "clean", parts) as copy:
        check(parts, keep=copy.add)
        raise KeyboardInterrupt
    with CleanCopy(tmp_path / "clean", parts):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_copy_never_writes_over_anything(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "empty").mkdir()
    parts = [Part("training", Memory(PAIRS))]
    with pytest.raises(ArgumentError, match="full: is there already"):
        CleanCopy(tmp_path / "full", parts)
    with pytest.raises(ArgumentError, match="there is no folder"):
        CleanCopy(tmp_path / "no" / "where", parts)
    with CleanCopy(tmp_path / "empty", parts) as copy:
        copy.finish(check(parts, keep=copy.add))
    assert (tmp_path / "empty" / "train.src").read_text("utf-8").count("\n") == len(PAIRS)


# ---- the pieces

texts = st.lists(st.text(max_size=30), max_size=12)


@given(texts)
def test_hashes_are_those_of_the_text_wherever_it_stands(lines: list[str]) -> None:
    together = Lines(lines).hashes
    alone = [int(Lines([text]).hashes[0]) for text in lines]
    assert together.tolist() == alone
    without = ["".join(one for one in text if not flags()[ord(one)] & INVISIBLE) for text in lines]
    assert len(set(alone)) == len(set(without))


@given(texts)
def test_sums_and_bits_are_those_of_each_line(lines: list[str]) -> None:
    together = Lines(lines)
    expected = [sum(ord(one) for one in text) for text in lines]
    assert together.sums(np.where(together.points <= 0x10FFFF, together.points, 0)).tolist() == expected
    bits = [int(np.bitwise_or.reduce([0, *(flags()[ord(one)] for one in text)])) for text in lines]
    assert together.any_flags.tolist() == bits
    stripped = [text.strip() for text in lines]  # as readers give them
    assert Lines(stripped).blank.tolist() == [not cleaned(text) for text in stripped]


@given(st.text(max_size=30))
def test_near_hashes_forget_case_digits_and_punctuation(text: str) -> None:
    letters = "Wasser 12 " + text
    hashes = Lines([letters, "«" + letters.replace("1", "7") + " !…", letters + "x"]).near_hashes
    assert hashes[0] == hashes[1] != hashes[2]
    assert Lines(["?! …", ""]).near_hashes.tolist() == [0, 0]


@given(st.text(max_size=40))
def test_cleaned_text_has_nothing_invisible_and_is_stable(text: str) -> None:
    result = cleaned(text)
    assert not any(flags()[ord(one)] & INVISIBLE for one in result)
    assert cleaned(result) == result == result.strip()


@given(st.lists(st.lists(st.integers(0, 50).map(lambda value: value * 0x9E3779B97F4A7C15 % 2**64), max_size=30)))
def test_a_hash_set_is_a_set(batches: list[list[int]]) -> None:
    seen: set[int] = set()
    hashes = HashSet(51)
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value in seen)
            seen.add(value)
        assert hashes.add(np.array(batch, dtype=np.uint64)).tolist() == expected
    assert len(hashes) == len(seen)


def test_a_large_hash_set_and_one_that_is_too_small() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes = HashSet(len(values))
    assert not hashes.add(values[:60_000]).any() and not hashes.add(values[60_000:]).any()
    assert hashes.add(values).all()
    with pytest.raises(ArgumentError, match="too few"):
        HashSet(5).add(values[:6])


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=20), st.integers(1, 40))
def test_blocks_are_cut_by_characters_and_lose_nothing(pairs: Pairs, most: int) -> None:
    block = Block(
        range(1, len(pairs) + 1), [a for a, _ in pairs], [b for _, b in pairs], dict.fromkeys(range(len(pairs)), "x")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.data.checks.blocks.CHARACTERS", most)
        pieces = list(text_blocks([block, block]))
    rows = [
        (line, *pair)
        for piece in pieces
        for line, *pair in zip(piece.lines, *(side.texts for side in piece.sides), strict=True)
    ]
    assert rows == 2 * [(index + 1, *pair) for index, pair in enumerate(pairs)]
    assert [piece.first for piece in pieces] == [sum(map(len, pieces[:index])) for index in range(len(pieces))]
    assert all(sorted(piece.problems) == list(range(len(piece))) for piece in pieces)
    for piece in pieces:
        sizes = piece.source.lengths + piece.target.lengths
        assert sizes[:-1].sum() < most
    assert CHARACTERS >= 1 << 20


def block_of(*pairs: tuple[str, str]):
    [block] = text_blocks([Block(range(1, len(pairs) + 1), [a for a, _ in pairs], [b for _, b in pairs])])
    return block


def test_numbers_are_the_same_however_they_are_written() -> None:
    same = [
        ("1,000.50 m", "1.000,50 m"),
        ("in 07", "7 mal"),
        ("at 3:30", "um 3 Uhr 30"),
        ("２０ dogs", "20 Hunde"),
        ("2 dogs", "zwei"),
    ]
    other = [("20 dogs", "30 Hunde"), ("1 and 2", "1 und 2 und 2")]
    assert other_numbers(block_of(*same)).tolist() == [False] * 5
    assert other_numbers(block_of(*other)).tolist() == [True] * 2


def test_text_without_words() -> None:
    without = [("12:30", "halb eins"), ("x", "<br/>"), ("a", "www.x.org"), ("mail", "me@x.org &amp;")]
    words = [("See www.x.org", "<b>fett</b>"), ("日本", "Japan")]
    assert without_words(block_of(*without, *words)).tolist() == [True] * 4 + [False] * 2


def test_characters() -> None:
    assert copies(block_of(("12", "12"), ("Tom", "Tom"), ("Tom", "tom"))).tolist() == [False, True, False]
    bad = ["Ã¼ber", "itâ€™s", "\ue000", "\x92", "\ufffe", "x\ufffd"]
    assert damaged(block_of(*((text, "x") for text in bad))).all()
    assert not damaged(block_of(("NÃO à l’Âge", "über Ångström â"), ("日本", "नमस्ते"))).any()
    portuguese = ["AMANHÃ…", "“IRMÃ”", "A MANHÃ– DISSE", "«AMANHÃ»", "MANHÃ\u00a0", "ĐÃ”", "NÃO", "Ãδ"]
    assert not damaged(block_of(*((text, "x") for text in portuguese))).any()
    misread = ["Ã–sterreich", "fÃ¼r", "„Ãœberâ€œ", "Ã\u00a0 la carte", "ÃƒÂ¼"]
    assert damaged(block_of(*((text, "x") for text in misread))).all()
    hidden = ["a\x00b", "a\rb", "a\u2028b", "a\ufeffb", "a\u202eb", "a\x85b", "co\xadop"]
    assert invisible(block_of(*((text, "x") for text in hidden))).all()
    assert not invisible(block_of(("a\tb", "می\u200cخواهم"))).any()  # a tab; a joiner that Persian needs


def test_tables_of_characters() -> None:
    codes, names = scripts()
    assert [names[codes[ord(one)]] for one in "aЖ中ひ한."] == ["Latn", "Cyrl", "Hani", "Hira", "Hang", "Zyyy"]
    assert [chr(folded()[ord(one)]) for one in "AÉＡ７९"] == ["a", "é", "a", "0", "0"]
    assert flags()[0x110000] == folded()[0x110000] == 0 and names[codes[0x110000]] == "Zzzz"
    assert flags()[ord("\ufffd")] == DAMAGED
    assert visible("x" * 99, 10) == "xxxxxxxxx…" and visible("\u202ea") == "⟨U+202E⟩a"


def test_length_ratio() -> None:
    source = np.arange(20, 220)
    ratio = LengthRatio.fit(source, 3 * source)
    assert not ratio.outliers(source, 3 * source).any()
    assert ratio.outliers(np.array([200, 200, 200]), np.array([1800, 600, 100])).tolist() == [True, False, True]
    assert str(ratio).startswith("a target usually has 3.00 times the characters of its source")


def test_samples_are_repeatable_and_hold_what_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.data.checks.sampling.SIZE", 100)
    reader = Memory([("", "x"), *PAIRS], problems=((5, "bad"),))
    told: list[int] = []
    first, again = draw(reader, 3, told.append), draw(reader, 3, lambda rows: None)
    assert first == again and first.rows == told[-1] == 1201 and len(first.pairs) == 100
    assert set(first.pairs) <= set(PAIRS) - {PAIRS[4]}
    assert draw(reader, 4, lambda rows: None) != first
