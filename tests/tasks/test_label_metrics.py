"""Metrics of labels and tags against their definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import ArgumentError
from regard.tasks.label_metrics import Entity, entities, entity_report, label_report, marks_entities

labels = st.sampled_from(["a", "b", "c", "d"])
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=40)
tags = st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"])
sentences = st.lists(st.lists(st.tuples(tags, tags), min_size=1, max_size=12), min_size=1, max_size=6)


@given(pairs)
def test_classes_from_their_definitions(answers: list[tuple[str, str]]) -> None:
    gold, predicted = [g for g, _ in answers], [p for _, p in answers]
    report = label_report(gold, predicted)
    occurring = sorted({*gold, *predicted})
    assert list(report.classes) == occurring == list(report.labels)
    f1s = []
    for name in occurring:
        right = sum(g == p == name for g, p in answers)
        wrong = sum(p == name != g for g, p in answers)
        missed = sum(g == name != p for g, p in answers)
        precision = right / (right + wrong) if right + wrong else 0.0
        recall = right / (right + missed) if right + missed else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        score = report.classes[name]
        assert (score.precision, score.recall) == (precision, recall)
        assert math.isclose(score.f1, f1)
        assert (score.support, score.predicted) == (gold.count(name), predicted.count(name))
        f1s.append(f1)
    assert report.accuracy == sum(g == p for g, p in answers) / len(answers)
    assert math.isclose(report.macro_f1, sum(f1s) / len(f1s))
    # micro: true and false positives and misses of all classes together
    right, errors = sum(g == p for g, p in answers), sum(g != p for g, p in answers)
    assert math.isclose(report.micro_f1, 2 * right / (2 * right + errors + errors))


@given(pairs)
def test_confusion_counts_every_answer_once(answers: list[tuple[str, str]]) -> None:
    gold, predicted = [g for g, _ in answers], [p for _, p in answers]
    report = label_report(gold, predicted, ["d", "z"])
    assert report.labels[:2] == ("d", "z")
    assert "z" not in report.classes  # it doesn't occur
    for i, row in enumerate(report.labels):
        for j, column in enumerate(report.labels):
            assert report.confusion[i][j] == answers.count((row, column))
    assert sum(map(sum, report.confusion)) == len(answers)


def test_a_table_by_hand() -> None:
    report = label_report(["cat", "cat", "dog", "fox"], ["cat", "dog", "dog", "dog"])
    assert report.confusion == ((1, 1, 0), (0, 1, 0), (0, 1, 0))
    assert report.classes["dog"].precision == 1 / 3
    assert report.classes["dog"].f1 == 0.5
    assert report.classes["fox"].f1 == 0.0
    assert math.isclose(report.macro_f1, (2 / 3 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("O B-PER I-PER O", [Entity(1, 3, "PER")]),
        ("B-PER B-PER", [Entity(0, 1, "PER"), Entity(1, 2, "PER")]),
        ("I-PER I-PER O I-LOC", [Entity(0, 2, "PER"), Entity(3, 4, "LOC")]),  # IOB1
        ("I-PER B-PER I-PER", [Entity(0, 1, "PER"), Entity(1, 3, "PER")]),  # IOB1: B- where two touch
        ("B-PER I-LOC I-LOC", [Entity(0, 1, "PER"), Entity(1, 3, "LOC")]),  # another type begins another entity
        ("S-PER B-LOC E-LOC I-LOC", [Entity(0, 1, "PER"), Entity(1, 3, "LOC"), Entity(3, 4, "LOC")]),
        ("O O", []),
        ("", []),
        ("B-a-b I-a-b", [Entity(0, 2, "a-b")]),
    ],
)
def test_entities_of_conll(sentence: str, found: list[Entity]) -> None:
    assert entities(sentence.split()) == found


@given(st.lists(tags, max_size=20))
def test_entities_cover_what_is_not_outside(row: list[str]) -> None:
    covered = [False] * len(row)
    for one in entities(row):
        assert one.start < one.stop
        for place in range(one.start, one.stop):
            assert not covered[place]
            covered[place] = True
            assert row[place].endswith(one.kind)
            assert place == one.start or row[place].startswith("I-")
    assert covered == [tag != "O" for tag in row]


@given(sentences)
def test_entity_scores_count_whole_entities(answers: list[list[tuple[str, str]]]) -> None:
    gold, predicted = ([[pair[side] for pair in row] for row in answers] for side in (0, 1))
    report = entity_report(gold, predicted)
    wanted = {(i, one) for i, row in enumerate(gold) for one in entities(row)}
    found = {(i, one) for i, row in enumerate(predicted) for one in entities(row)}
    right = len(wanted & found)
    assert report.total.support == len(wanted)
    assert report.total.predicted == len(found)
    assert report.total.precision == (right / len(found) if found else 0.0)
    assert report.total.recall == (right / len(wanted) if wanted else 0.0)
    for kind, score in report.types.items():
        own = sum(one.kind == kind for _, one in wanted & found)
        assert math.isclose(score.f1, 2 * own / (score.support + score.predicted))
    assert sum(score.support for score in report.types.values()) == len(wanted)


def test_the_example_of_conll() -> None:
    """An entity found with a wrong end counts as a miss and as a mistake."""
    gold = [["B-PER", "I-PER", "O", "B-LOC"]]
    report = entity_report(gold, [["B-PER", "O", "O", "B-LOC"]])
    assert (report.total.precision, report.total.recall, report.total.f1) == (0.5, 0.5, 0.5)
    assert report.types["LOC"].f1 == 1.0
    assert report.macro_f1 == 0.5


def test_which_tags_mark_entities() -> None:
    assert marks_entities(["O", "B-PER", "I-PER"])
    assert not marks_entities(["NOUN", "VERB"])
    assert not marks_entities(["O"])
    assert not marks_entities(["B-PER", "NOUN"])


@pytest.mark.parametrize(("gold", "said"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_unequal_numbers_are_refused(gold: list[str], said: list[str]) -> None:
    with pytest.raises(ArgumentError, match="expected one for each"):
        label_report(gold, said)


def test_wrong_tags_are_named() -> None:
    with pytest.raises(ArgumentError, match="'NOUN' marks no entity"):
        entities(["NOUN"])
    with pytest.raises(ArgumentError, match="sentence 0: 1 predicted tags for 2 words"):
        entity_report([["O", "O"]], [["O"]])
